# ruff: noqa: E501
"""Lines with a credential, made up anew at each run, and lines of ordinary code and documentation without one.

No credential is stored, so that scanners which look for leaked ones have nothing to find here.
"""

from __future__ import annotations

import base64
import random
import string

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
B64 = ALNUM + "+/"
URL64 = ALNUM + "-_"


class Made:
    """Random credentials of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def of(self, alphabet: str, size: int) -> str:
        """Characters of an alphabet, letters and digits among them where it has both."""
        while True:
            made = "".join(self._random.choices(alphabet, k=size))
            if size < 12 or alphabet.isdigit() or (not made.isalpha() and not made.isdigit()):
                return made

    def password(self) -> str:
        """As people make them: a word with digits and signs, or characters without order."""
        words = ("Winter", "dragon", "Sommer", "blue", "kayak", "Tiger", "maison", "qwert", "Fenster", "lucky")
        word = self._random.choice(words)
        number = self._random.randrange(10, 9999)
        shapes = (f"{word}{number}", f"{word}{number}!", f"{word}#{number}", f"{number}{word}$x", self.of(ALNUM, 10),
                  f"{word[0]}{number}{word[1:]}&{self.of(ALNUM, 3)}", f"{word.replace('i', '1').replace('o', '0')}{number}")  # fmt: skip
        return self._random.choice(shapes)

    def jwt(self) -> str:
        """A JSON web token with a random signature."""
        parts = (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"%d","iat":1700000000}' % self._random.randrange(10**9))
        head, body = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        return f"{head}.{body}.{self.of(URL64, 43)}"


def true_strings(seed: int = 9) -> list[tuple[str, str]]:
    """Some 190 lines, each with the credential in it."""
    m = Made(seed)
    keys = [
        lambda: "AKIA" + m.of(string.ascii_uppercase + "234567", 16), lambda: "ghp_" + m.of(ALNUM, 36),
        lambda: "gho_" + m.of(ALNUM, 36), lambda: "github_pat_" + m.of(ALNUM, 22) + "_" + m.of(ALNUM, 59),
        lambda: "glpat-" + m.of(URL64, 20), lambda: "gldt-" + m.of(URL64, 20), lambda: "AIza" + m.of(URL64, 35),
        lambda: "GOCSPX-" + m.of(URL64, 28), lambda: "ya29." + m.of(URL64, 60), lambda: "sk_live_" + m.of(ALNUM, 24),
        lambda: "rk_test_" + m.of(ALNUM, 24), lambda: "whsec_" + m.of(ALNUM, 32), lambda: "sk-" + m.of(ALNUM, 48),
        lambda: "sk-proj-" + m.of(ALNUM, 60), lambda: "sk-ant-api03-" + m.of(URL64, 80), lambda: "npm_" + m.of(ALNUM, 36),
        lambda: "pypi-AgEIcHlwaS5vcmc" + m.of(URL64, 80), lambda: "hf_" + m.of(ALNUM, 34), lambda: m.jwt(),
        lambda: "xoxb-" + m.of(string.digits, 12) + "-" + m.of(ALNUM, 24), lambda: "xapp-1-" + m.of(URL64, 40),
        lambda: "SG." + m.of(URL64, 22) + "." + m.of(URL64, 43), lambda: "dop_v1_" + m.of(HEX, 64),
        lambda: "shpat_" + m.of(HEX, 32), lambda: "glsa_" + m.of(ALNUM, 32) + "_" + m.of(HEX, 8),
        lambda: "hvs." + m.of(URL64, 90), lambda: "dckr_pat_" + m.of(URL64, 27), lambda: "dapi" + m.of(HEX, 32),
        lambda: m.of(string.digits, 9) + ":AA" + m.of(URL64, 33), lambda: "SK" + m.of(HEX, 32),
    ]  # fmt: skip
    around = ("use {} here", "TOKEN={}", "the key is `{}`.", '"key": "{}",')
    lines = [(frame.format(key), key) for make in keys for frame in around[:3] for key in (make(),)]
    labels = ("password: {}", "Password = {}", "DB_PASSWORD={}", '"password": "{}",', "Passwort: {}", "Kennwort: {}",
              "mot de passe : {}", "contraseña: {}", "senha: {}", "wachtwoord: {}", "hasło: {}", "пароль: {}", "密码：{}",
              "パスワード：{}", "비밀번호: {}", "My password is {}", "Das Passwort lautet {}", "**Password:** `{}`", "passphrase: {}",
              "--password {}", "<password>{}</password>", "mysql --password={} -u root", "şifre: {}", "lösenord: {}",
              "parola: {}", "pwd={};")  # fmt: skip
    lines += [(label.format(p), p) for label in labels for _ in range(2) for p in (m.password(),)]
    frames = [
        ("DefaultEndpointsProtocol=https;AccountName=x;AccountKey={};EndpointSuffix=core.windows.net", lambda: m.of(B64, 86) + "=="),
        ("Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey={}", lambda: m.of(B64, 43) + "="),
        ("aws_secret_access_key = {}", lambda: m.of(B64, 40)), ("https://hooks.slack.com/services/T{0}/B{0}/{0}", lambda: m.of(ALNUM, 20)),
        ("Server=db;Database=x;User Id=app;Password={};", lambda: m.password()), ("postgres://app:{}@db.host/x", lambda: m.password()),
        ("https://bob:{}@git.host/repo.git", lambda: m.of(ALNUM, 16)), ("redis://:{}@cache:6379/0", lambda: m.password()),
        ("Authorization: Bearer {}", lambda: m.of(ALNUM, 40)), ("Authorization: Basic {}", lambda: m.of(ALNUM, 23) + "="),
        ("X-Api-Key: {}", lambda: m.of(ALNUM, 32)), ("client_secret={}", lambda: m.of(ALNUM, 32)), ('api_key: "{}"', lambda: m.of(HEX, 32)),
        ("curl -u bob:{} https://api.host/", lambda: m.password()), ("machine api.host login bob password {}", lambda: m.password()),
        ("https://x.blob.core.windows.net/c?sv=2022&sig={}", lambda: m.of(ALNUM, 42) + "%3D"), ("refresh_token: {}", lambda: m.of(URL64, 40)),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----", lambda: m.of(B64, 200)),
    ]  # fmt: skip
    return lines + [(frame.format(made), made) for frame, make in frames for _ in range(2) for made in (make(),)]


def newer_strings(seed: int = 9) -> list[tuple[str, str]]:
    """Lines with keys of newer services, and with passwords in places of their own."""
    m = Made(seed)
    keys = [
        "xai-" + m.of(ALNUM, 80), "nvapi-" + m.of(URL64, 64), "sb_secret_" + m.of(URL64, 31), "sbp_" + m.of(HEX, 40),
        "tskey-auth-" + m.of(ALNUM, 12) + "CNTRL-" + m.of(ALNUM, 32), "figd_" + m.of(ALNUM, 40), "fo1_" + m.of(ALNUM, 43),
        "vercel_blob_rw_" + m.of(ALNUM, 16) + "_" + m.of(ALNUM, 30), "ops_eyJ" + m.of(ALNUM, 100), "dp.st.prd." + m.of(ALNUM, 43),
        "dor_v1_" + m.of(HEX, 64), "pul-" + m.of(HEX, 40), "tk_" + m.of(ALNUM, 29), "pat" + m.of(ALNUM, 14) + "." + m.of(HEX, 64),
        "phx_" + m.of(ALNUM, 43), "re_" + m.of(ALNUM, 8) + "_" + m.of(ALNUM, 24), "CFPAT-" + m.of(ALNUM, 43),
        "LTAI" + m.of(ALNUM, 20), "sha256~" + m.of(ALNUM, 43), m.of(ALNUM, 14) + ".atlasv1." + m.of(ALNUM, 67),
    ]  # fmt: skip
    letters = "".join(c for c in m.of(ALNUM, 90) if c.isalpha())
    password, word = m.of(ALNUM, 12) + "!", f"{letters[:14]}/K7{letters[14:37]}"  # one digit, as chance may have it
    places = [
        ("sshpass -p '{}' ssh root@host", password), ("mysql -u app -p{} shop", password), ('<add key="Password" value="{}"/>', password), ('DB_PASS="{}"', password),
        ("aws_secret_access_key = {}", word), ('"SecretAccessKey": "{}"', word),
    ]  # fmt: skip
    return [(f"the key is {key} here", key) for key in keys] + [(frame.format(said), said) for frame, said in places]


FALSE = """
token = tokenizer.next_token()
token: str
self.token = token
def login(user, password): ...
password = getpass.getpass("Password: ")
password=None
secret = os.environ["SECRET"]
api_key = os.getenv("OPENAI_API_KEY")
api_key: Optional[str] = None
The token is a string.
The token is valid for 3600 seconds.
Your password is too short.
password is required
Enter your password:
password: string
"password": "password"
"token": "<token>"
token: uint64 number
auth_token: oauth2_token
private_key=id_rsa2
Set the password to at least 8 characters.
The session token is base64-encoded.
The password is sha256-hashed before use.
export TOKEN=$GITHUB_TOKEN
TOKEN=${TOKEN:-none}
Authorization: Bearer <token>
Authorization: Bearer $TOKEN
Authorization: Basic auth is used.
https://user:password@host/
https://<user>:<password>@host/
postgres://postgres:postgres@localhost/db
secretKeyRef: {name: db, key: password}
secretName: my-secret
password: ${{ secrets.DB_PASSWORD }}
key: "primary"
sort(key=lambda x: x[1])
dict(key=value1, other=value2)
primary_key: user_id2
foreign_key: order_id
api_key="your-api-key"
api_key="YOUR_API_KEY_HERE"
token = "xxxxxxxxxxxx"
token = "..."
pad_token="[PAD]"
eos_token: </s>
bos_token_id=1, eos_token_id=2
max_tokens: 4096
num_tokens=1234567
tokens per second: 123.4
token_type: Bearer
"token_type": "bearer"
csrf_token is stored in a cookie
The secret is safe with us.
secret: true
secrets: inherit
kubectl create secret generic db --from-literal=password=$PASS
ssh-keygen -t ed25519 -f id_ed25519
-----BEGIN PUBLIC KEY-----
-----BEGIN CERTIFICATE-----
public_key = rsa.PublicKey(2048)
PublicKeyToken=b77a5c561934e089
password: varchar(255)
password VARCHAR(64) NOT NULL
CREATE USER app IDENTIFIED BY :password
passwordField.setText("")
<input type="password" name="password2">
<label for="password">Password</label>
if password == confirm_password1:
assert token == expected_token1
print(f"token: {token}")
logger.info("password changed for user42")
raise ValueError("token is invalid")
"error": "invalid_token"
WWW-Authenticate: Bearer realm="api2"
password_hash = hashlib.sha256(password.encode()).hexdigest()
hash: sha256:abcdef
sha256 = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
commit: 9f27d24949b0581701071ea5ef522d77ccd3f50c
id: 123e4567-e89b-12d3-a456-426614174000
etag: "686897696a7c876b7e"
integrity: sha512-abc
checksum md5 d41d8cd98f00b204e9800998ecf8427e
sk-learn-is-a-typo-of-scikit-learn
the pk_test_ prefix marks test keys
keys begin with ghp_ or gho_
AKIA is the prefix of AWS keys
hf_hub_download(repo_id="x", filename="y")
npm_config_registry=https://registry.npmjs.org
pypi-publish is an action
xoxb- tokens are for bots
Bearer tokens are sent in headers
Basic authentication with username and password
passphrase: optional
passwd: files systemd
/etc/passwd: world readable
pwd: /home/user1
cd $(pwd)
pass: 12, fail: 3
pass=True
passcode is a number
Passwort: mindestens 8 Zeichen
Passwort vergessen?
mot de passe : obligatoire
contraseña: requerida
密码：必填
パスワード：必須
비밀번호: 필수
password: [8, 64]
password: "minimum8"
password.length >= 8
password: z.string().min(8)
token = jwt.encode(payload, key, algorithm="HS256")
token=request.headers["X-Token"]
secret=config.secret1
key = keys[0]
key=f"user:{id1}"
api_key=settings.api_key2
access_token: AccessToken2
token: TokenV2
auth: oauth2
auth=HTTPBasicAuth(user1, pass1)
auth: basic
auth = ("user", "pass")
client_secret: string
client_secret_basic
private_key: Ed25519PrivateKey
private_key_path: /etc/ssl/private1.pem
ssl_key=/certs/server.key
secret: bytes32
secret: vault:kv/data/app#key1
token: env:TOKEN2
password: !vault |
password: ENC(...)
password: REDACTED
password: ********
--password <password>
--token $TOKEN
--api-key "$API_KEY"
curl -u user:$PASS https://api.host
curl -u "$USER:$PASS" https://api.host
curl https://api.host/v1/models
docker login -u user --password-stdin
machine host login user password <password>
User Id=app;Password=;
Password={0};
connection string: Server=x;Integrated Security=true
AccountKey=<key>
SharedAccessKeyName=RootManageSharedAccessKey
hooks.slack.com/services/
?access_token=TOKEN
&sig=<signature>
The API key is shown once.
An access token is like a password.
Use a token with the scope read:user.
The token to use is the first one.
the password was reset to the default
password is the same as the user name
the key is base64url, the secret is hex2
token kind: NAME = 1, NUMBER = 2
token.type == tokenize.NUMBER
Token 12345 was not expected
""".strip().splitlines()
