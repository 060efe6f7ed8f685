// SPDX-License-Identifier: Apache-2.0
// What the pages with a console share: which console is open, the way back to it, and asking for its address.

const RETRIES = [500, 1000, 2000, 4000, 8000]; // milliseconds; a proxy or a host that restarts is back by then

export const find = (id) => document.getElementById(id);

export function show(state, text) {
  find("state").dataset.state = state;
  find("state").textContent = text;
}

export class Page {
  #kept;
  #locate;
  #join;
  #attempt = 0;
  #timer = 0;

  // kept: the key under which this tab remembers the console, so that a reload opens the same one.
  // join: opens the console at a websocket's address; it tells of `opened` and, in the end, of `closed`.
  // locate: finds the websocket's address in the page's own.
  constructor({ kept, join, locate = (url) => url }) {
    this.#kept = kept;
    this.#join = join;
    this.#locate = locate;
  }

  start() {
    find("ask").onsubmit = (event) => {
      event.preventDefault();
      this.#open(find("address").value);
    };
    const here = this.#readAddress(window.location.href);
    if (here) {
      window.history.replaceState(null, "", window.location.pathname); // the token shall not stay in the history
      this.#connect(here);
    } else if (window.sessionStorage.getItem(this.#kept)) {
      this.#connect(new URL(window.sessionStorage.getItem(this.#kept)));
    } else {
      this.#ask("Open a console", "Paste the address that this command prints:");
    }
  }

  opened(url) {
    this.#attempt = 0;
    show("open", "Connected");
    window.sessionStorage.setItem(this.#kept, url.href);
  }

  // The proxy accepts every connection and hangs up at once on a token that it does not know.
  closed(url, wasOpen) {
    if (!wasOpen && this.#attempt >= RETRIES.length) {
      window.sessionStorage.removeItem(this.#kept);
      show("closed", "Not connected");
      this.#ask("This address has expired", "An address opens a console for ten minutes. Ask for a new one:");
      return;
    }
    const delay = RETRIES[Math.min(this.#attempt, RETRIES.length - 1)];
    this.#attempt += 1;
    show("waiting", "Disconnected; connecting again…");
    this.#timer = window.setTimeout(() => this.#connect(url), delay);
  }

  #connect(url) {
    find("ask").hidden = true;
    show("waiting", this.#attempt ? "Connecting again…" : "Connecting…");
    this.#join(url);
  }

  #open(text) {
    const url = this.#readAddress(text);
    if (!url) {
      find("ask-why").textContent = "That is no address of a console. This command prints one:";
      return;
    }
    this.#attempt = 0;
    this.#connect(url);
  }

  #ask(title, why) {
    window.clearTimeout(this.#timer);
    find("ask-title").textContent = title;
    find("ask-why").textContent = why;
    find("ask").hidden = false;
    find("address").value = "";
    find("address").focus();
  }

  // The address as Nova gives it, or this page's own with the token in it; null if it is neither.
  #readAddress(text) {
    let url;
    try {
      url = this.#locate(new URL(text.trim(), window.location.href));
    } catch {
      return null;
    }
    url.protocol = { "http:": "ws:", "https:": "wss:" }[url.protocol] ?? url.protocol;
    url.hash = "";
    return ["ws:", "wss:"].includes(url.protocol) && url.searchParams.get("token") ? url : null;
  }
}
