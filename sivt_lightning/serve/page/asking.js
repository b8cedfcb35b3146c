// -- the server, and its token ---------------------------------------------------------------------------------------

const data = JSON.parse(at("data").textContent);

// A browser may refuse to keep anything.
function stored(place, name) {
  try {
    return window[place].getItem(name);
  } catch {
    return null;
  }
}

function store(place, name, text) {
  try {
    if (text) window[place].setItem(name, text);
    else window[place].removeItem(name);
  } catch {
    // it is asked for again
  }
}

const TOKEN = "sivt token";
let token = data.token ? stored("sessionStorage", TOKEN) : null; // kept with the tab
const locked = () => data.token && !token;

class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

// The answer to a request of this server; addresses are relative, so that a proxy may put it into a folder.
async function ask(path, options = {}) {
  const bearer = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...options.headers, ...bearer }, cache: "no-store" });
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401 && data.token) lock("The server takes another token.");
  throw new Refused(answer.status, said.error ?? `The server answers ${answer.status}.`);
}

const asked = async (path, options) => (await ask(path, options)).json();
const picture = async (path) => URL.createObjectURL(await (await ask(path)).blob());

function lock(why) {
  token = null;
  store("sessionStorage", TOKEN, "");
  at("locked").textContent = why;
  unlocked();
}

function unlocked() { // or not
  at("lock").hidden = !locked();
  at("all").hidden = locked();
  at("forget").hidden = locked() || !data.token;
  if (locked()) {
    turnOff();
    at("token").focus();
  } else {
    refresh();
  }
}

async function enter(event) {
  event.preventDefault();
  token = at("token").value.trim();
  if (!/^[\x21-\x7e]+$/.test(token)) return lock("A token has letters, digits and signs without spaces.");
  try {
    await ask("v1/model");
  } catch (error) {
    if (error.status !== 401) lock(error.message);
    return;
  }
  store("sessionStorage", TOKEN, token);
  at("token").value = at("locked").textContent = "";
  unlocked();
}
