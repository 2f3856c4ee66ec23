"""Keys of well-known services, which have a form of their own, JSON web tokens, and secrets in services' addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_jobs.pii.values import is_placeholder, is_random

_LONG_RUN = re.compile(r"[\w-]{15}")  # No key is shorter than this.
_KEYS = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[0-9A-Z]{16}(?![0-9A-Za-z])"  # AWS access key ids
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255}"  # GitHub
    r"|gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt|ffct)-[\w.-]{20,128}"  # GitLab
    r"|xox[abceoprs]-[\w-]{10,255}|xapp-\d-[\w-]{20,255}"  # Slack
    r"|[srp]k_(?:live|test)_[A-Za-z0-9]{16,255}|whsec_[A-Za-z0-9+/=]{24,128}"  # Stripe
    r"|AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{20,512}|hf_[A-Za-z0-9]{30,64}"  # Google, Hugging Face
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,255}|SG\.[\w-]{16,32}\.[\w-]{16,64}|rubygems_[0-9a-f]{48}"
    r"|sk-(?=[A-Za-z_-]{0,60}\d)[\w-]{20,255}"  # OpenAI, Anthropic and those that copy them
    r"|AGE-SECRET-KEY-1[0-9A-Z]{58}|hv[sbr]\.[\w-]{20,255}|s\.(?=[A-Za-z]{0,22}\d)[A-Za-z0-9]{24}(?![\w.(])"
    r"|dop_v1_[0-9a-f]{64}|dapi[0-9a-f]{32}|dckr_[po]at_[\w-]{20,64}"
    r"|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|sq0(?:atp|csp|idp)-[\w-]{22,64}|gl(?:sa|c)_[\w+/=]{32,255}"
    r"|PMAK-[0-9a-f-]{30,64}|plinth_[0-9a-f]{10}_[\w-]{43}"  # the last one: keys of this very service
    r"|NRAK-[0-9A-Z]{27}|sntry[su]_[\w+/=-]{40,255}|lin_api_[A-Za-z0-9]{40}|secret_[A-Za-z0-9]{43}"
    r"|ntn_[A-Za-z0-9]{40,64}"
    r"|ATATT3[\w=-]{40,255}|EAACEdEose0cBA[0-9A-Za-z]+|(?:AC|SK)[0-9a-f]{32}(?![0-9A-Za-z])|key-[0-9a-f]{32}"
    r"|xai-[A-Za-z0-9]{40,128}|nvapi-[\w-]{40,128}|sb_secret_[\w-]{20,64}|sbp_[0-9a-f]{40}"
    r"|tskey-[a-z]{3,12}-[\w-]{20,80}"
    r"|vercel_blob_rw_[A-Za-z0-9]{8,32}_[A-Za-z0-9]{20,64}|fig[du]_[\w-]{36,64}|ops_eyJ[\w-]{20,4096}|fo1_[\w-]{40,64}"
    r"|dp\.(?:st|pt|ct|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}|do[or]_v1_[0-9a-f]{64}"
    r"|pul-[0-9a-f]{40}"
    r"|tk_(?=[A-Za-z]{0,28}\d)[A-Za-z0-9]{29}(?![A-Za-z0-9])|pat[A-Za-z0-9]{14}\.[0-9a-f]{64}|phx_[A-Za-z0-9]{40,64}"
    r"|re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}|CFPAT-[\w-]{43}|LTAI[A-Za-z0-9]{16,24}(?![A-Za-z0-9])|sha256~[\w-]{43}"
    r"|[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,70}"
    r"|[MNO](?=[A-Za-z_-]{0,26}\d)[\w-]{22,27}\.[\w-]{6}\.[\w-]{27,45}"  # Discord
    r"|[\w~.-]{3}[78]Q~[\w~.-]{31,34}"  # Azure
    r"|\d{8,10}:AA[\w-]{33}|tfp_[\w-]{40,64}|r8_[A-Za-z0-9]{37}|gsk_[A-Za-z0-9]{40,64}|pplx-[A-Za-z0-9]{40,64}"
    r"|mfa\.[\w-]{80,95}|1//0[\w-]{40,160}|A{12,32}[\w%]{0,80}(?:%[23][bBdDfF]"
    r"|=)[\w%]{20,128}"  # Google's refresh tokens, X
    r"|ATBB[A-Za-z0-9]{28,36}(?![A-Za-z0-9])|ATTA[0-9a-f]{60,72}|[0-9a-f]{32}-us\d{1,2}(?!\w)"  # Atlassian, Mailchimp
    r"|GR1348941[\w-]{20}|SWMTKN-1-[a-z0-9]{40,60}-[a-z0-9]{20,30}|EAA[A-Za-z0-9]{60,255}|IQoJb3JpZ2lu[\w+/=]{40,4096}"
    r"|nfp_[A-Za-z0-9]{36,64}|rnd_[A-Za-z0-9]{28,40}|sq[apu]_[0-9a-f]{40}|pscale_(?:tkn|pw|oauth)_[\w.-]{32,64}"
    r"|HRKU-[\w-]{36,64}|sgp_(?=[a-z_-]{0,30}\d)\w{40,80}|dt0[a-z]\d\d\.[A-Z0-9]{24}\.[A-Z0-9]{64}"
    r"|rzp_(?:live|test)_[A-Za-z0-9]{14}(?!\w)|AKCp[A-Za-z0-9]{60,80}|CCIPAT_\w{40,80}|FLWSECK[_-][\w-]{12,64}"
    r"|shippo_(?:live|test)_[0-9a-f]{40}|lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}|rpa_[A-Za-z0-9]{40,64}"
    r"|access-(?:sandbox|development|production)-[0-9a-f]{8}-[0-9a-f-]{27}|sl\.(?=[A-Za-z_-]{0,40}\d)[\w-]{60,255}"
    r"|tvly-(?=[A-Za-z-]{0,28}\d)[A-Za-z0-9-]{28,48}"
    r"|eyJ[\w-]{8,4096}(?:\n[\w-]{8,4096})?\.[\w-]{8,4096}(?:\.[\w-]{0,4096})?"  # JSON web tokens
    r")"
)
_WEBHOOK = re.compile(
    r"hooks\.slack\.com/(?:services|workflows|triggers)/([\w/-]{20,200})"
    r"|(?:discord|discordapp)\.com/api/webhooks/\d{5,20}/([\w-]{30,128})"
    r"|api\.telegram\.org/(?:file/)?bot(\d{6,12}:[\w-]{30,64})"
    r"|\.webhook\.office\.com/webhookb2/([\w@/-]{40,300})|hooks\.zapier\.com/hooks/catch/([\w/]{8,64})"
)
# An account and its token.
_TWILIO = re.compile(
    r"AC[0-9a-f]{32}(?:[\"'],? ?[\"']| ?[:/,|] ?| )(?:(?:auth )?token:? )?([0-9a-f]{32})(?![0-9A-Za-z])"
)
_AWS = re.compile(r"AKIA[0-9A-Z]{16}[\s,;:/|\"']{1,4}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])")
_BOT = re.compile(r"\bbot(\d{8,10}:AA[\w-]{30,36})")
_IN_ADDRESS = re.compile(
    r"[?&](?:sig|x-amz-signature|x-goog-signature|(?:access_?|auth_?|refresh_?|id_?|api_?)?token|(?:api_?|access_?)?key"
    r"|appid|code|(?:client_?|api_?)?secret|password|pwd|session_?id)=([\w%+/.~-]{16,1024}={0,2})", re.I,
)  # fmt: skip
_SESSION = re.compile(r"\b(?:php|j|asp)?sess(?:ion)?_?(?:id)?=([\w%+/.-]{20,512})(?![\w(])", re.I)
_HOOK = re.compile(r"/hooks/([A-Za-z0-9]{26})(?!\w)")  # Mattermost
_BEARER = re.compile(
    r"\b(?:Bearer|Basic|Token|(?<=uthorization: )[tT]oken|(?<=uthorization: )bearer) "
    r"((?=[A-Za-z+/_=-]{0,40}[0-9])[\w.~+/=-]{16,4096})"
)


def keys_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of keys by their form, and of what opens a door in the address of a service or in a header."""
    if _LONG_RUN.search(text):
        yield from (match.span() for match in _KEYS.finditer(text))
    if "hook" in text or "api.telegram" in text:
        yield from (match.span(match.lastindex or 0) for match in _WEBHOOK.finditer(text))
        yield from (match.span(1) for match in _HOOK.finditer(text) if is_random(match[1]))
    if "AC" in text:
        yield from (match.span(1) for match in _TWILIO.finditer(text))
    if "AKIA" in text:
        yield from (match.span(1) for match in _AWS.finditer(text))
    if ":AA" in text:
        yield from (match.span(1) for match in _BOT.finditer(text))
    if "=" in text:
        for pattern in (_IN_ADDRESS, _SESSION):
            yield from (m.span(1) for m in pattern.finditer(text) if is_random(m[1]) and not is_placeholder(m[1]))
    if "Bearer " in text or "Basic " in text or "oken " in text or "bearer " in text:
        yield from (match.span(1) for match in _BEARER.finditer(text))
