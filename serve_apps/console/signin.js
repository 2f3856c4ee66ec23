// Signs this browser in: with the one-time code that `plinth open` puts behind the # of a link, which no server and no
// log ever sees and which is taken out of the address at once, or with a key typed into the form.

const ONCE = "#once=";

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error?.message ?? "it did not work");
}

function say(problem) {
  const place = document.getElementById("problem");
  if (place) place.textContent = problem;
}

async function signIn(body) {
  try {
    await post("/v1/plinth/session", body);
    location.reload();
  } catch (error) {
    say(error.message);
  }
}

export async function signOut() {
  await post("/v1/plinth/session/end", {});
  location.reload();
}

// Whom the session stands for: {keys, tenant, scopes, ...}; null while nobody is signed in.
export async function whoami() {
  const response = await fetch("/v1/plinth/me", { cache: "no-store" });
  return response.ok ? response.json() : null;
}

async function takeCode() {
  const code = location.hash.slice(ONCE.length);
  history.replaceState(null, "", location.pathname + location.search);
  await signIn({ code });
}

// A link opened in a tab that shows the page already changes the hash and loads nothing.
addEventListener("hashchange", () => location.hash.startsWith(ONCE) && takeCode());
if (location.hash.startsWith(ONCE)) {
  await takeCode();
} else if (document.getElementById("signin") && (await whoami())) {
  location.reload(); // signed in after all: a browser keeps the session to itself when another site's link leads here
}

document.getElementById("signin")?.addEventListener("submit", (event) => {
  event.preventDefault();
  signIn({ key: document.getElementById("key").value.trim() });
});
