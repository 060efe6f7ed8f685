// SPDX-License-Identifier: Apache-2.0
// A server's VNC console in a browser: noVNC's client joined with Nova's noVNC proxy, which also serves this page.

import RFB from "./vendor/novnc/core/rfb.js";

const KEPT = "vnc-address"; // of this tab, so that a reload opens the same console
const RETRIES = [500, 1000, 2000, 4000, 8000]; // milliseconds; a proxy or a host that restarts is back by then
const ESCAPE = 0xff1b;
const RETURN = 0xff0d;
const UNICODE = 0x01000000; // begins the keysyms of all characters but Latin-1's, which are their own

const find = (id) => document.getElementById(id);

let rfb = null;
let attempt = 0;
let timer = 0;

function show(state, text) {
  find("state").dataset.state = state;
  find("state").textContent = text;
}

// The websocket behind an address as Nova gives it, or behind one with the token in it; null if it is neither.
function readAddress(text) {
  let url;
  try {
    url = new URL(text.trim(), window.location.href);
    const path = url.searchParams.get("path");
    url = path ? new URL(path.startsWith("?") ? `/${path}` : path, url.origin) : url;
  } catch {
    return null;
  }
  url.protocol = { "http:": "ws:", "https:": "wss:" }[url.protocol] ?? url.protocol;
  url.hash = "";
  return ["ws:", "wss:"].includes(url.protocol) && url.searchParams.get("token") ? url : null;
}

function ask(title, why) {
  window.clearTimeout(timer);
  find("ask-title").textContent = title;
  find("ask-why").textContent = why;
  find("ask").hidden = false;
  find("address").value = "";
  find("address").focus();
}

function rename(name) {
  find("name").textContent = name;
  document.title = `${name} – noVNC`;
}

function connect(url) {
  let connected = false;
  find("ask").hidden = true;
  show("waiting", attempt ? "Connecting again…" : "Connecting…");
  const client = new RFB(find("terminal"), url.href, { shared: true, wsProtocols: ["binary"] });
  rfb = client;
  client.resizeSession = true; // the terminal has this window's size
  client.background = "#10141a";
  client.addEventListener("desktopname", (event) => rename(event.detail.name));
  client.addEventListener("connect", () => {
    connected = true;
    attempt = 0;
    show("open", "Connected");
    window.sessionStorage.setItem(KEPT, url.href);
    client.focus();
  });
  client.addEventListener("disconnect", () => part(url, connected));
}

// The proxy accepts every connection and hangs up at once on a token that it does not know.
function part(url, connected) {
  rfb = null;
  if (!connected && attempt >= RETRIES.length) {
    window.sessionStorage.removeItem(KEPT);
    show("closed", "Not connected");
    ask("This address has expired", "An address opens a console for ten minutes. Ask for a new one:");
    return;
  }
  const delay = RETRIES[Math.min(attempt, RETRIES.length - 1)];
  attempt += 1;
  show("waiting", "Disconnected; connecting again…");
  timer = window.setTimeout(() => connect(url), delay);
}

// What the protocol's clipboard cannot carry (all but Latin-1) is typed.
function paste(text) {
  if (!rfb || !text) {
    return;
  }
  if ([...text].every((character) => character.codePointAt(0) < 256)) {
    rfb.clipboardPasteFrom(text);
  } else {
    for (const character of text.replace(/\r\n?/g, "\n")) {
      const point = character.codePointAt(0);
      rfb.sendKey(character === "\n" ? RETURN : point < 256 ? point : UNICODE + point);
    }
  }
  rfb.focus();
}

async function pasteClipboard() {
  try {
    paste(await navigator.clipboard.readText());
  } catch {
    show(find("state").dataset.state, "Press Ctrl+Shift+V to paste");
    rfb?.focus();
  }
}

function fillScreen() {
  if (document.fullscreenElement) {
    document.exitFullscreen();
  } else {
    document.documentElement.requestFullscreen();
  }
  rfb?.focus();
}

function start() {
  find("paste").onclick = pasteClipboard;
  find("full").onclick = fillScreen;
  find("escape").onclick = () => {
    rfb?.sendKey(ESCAPE, "Escape");
    rfb?.focus();
  };
  // Before the client sees it, which would keep the browser from pasting.
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey && event.shiftKey && event.code === "KeyV") {
      event.stopPropagation();
    }
  }, { capture: true });
  document.addEventListener("paste", (event) => {
    if (event.target !== find("address")) {
      event.preventDefault();
      paste(event.clipboardData.getData("text/plain"));
    }
  });
  find("ask").onsubmit = (event) => {
    event.preventDefault();
    open(find("address").value);
  };
  const here = readAddress(window.location.href);
  if (here) {
    window.history.replaceState(null, "", window.location.pathname); // the token shall not stay in the history
    connect(here);
  } else if (window.sessionStorage.getItem(KEPT)) {
    connect(new URL(window.sessionStorage.getItem(KEPT)));
  } else {
    ask("Open a console", "Paste the address that this command prints:");
  }
}

function open(text) {
  const url = readAddress(text);
  if (!url) {
    find("ask-why").textContent = "That is no address of a console. This command prints one:";
    return;
  }
  attempt = 0;
  connect(url);
}

start();
