// SPDX-License-Identifier: Apache-2.0
// A server's serial console in a browser: a terminal joined with Nova's serial proxy, which also serves this page.

import { FitAddon } from "./vendor/addon-fit.mjs";
import { Terminal } from "./vendor/xterm.mjs";

const KEPT = "console-address"; // of this tab, so that a reload opens the same console
const RETRIES = [500, 1000, 2000, 4000, 8000]; // milliseconds; a proxy or a host that restarts is back by then
const SIZES = { smallest: 9, usual: 14, largest: 28 };

const find = (id) => document.getElementById(id);
const encoder = new TextEncoder();
const terminal = new Terminal({
  cursorBlink: true,
  fontFamily: '"DejaVu Sans Mono", ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace',
  fontSize: SIZES.usual,
  scrollback: 5000,
  theme: { background: "#10141a", foreground: "#dbe3ec", cursor: "#4aa8ff", selectionBackground: "#2f5b86" },
  windowOptions: { getWinSizeChars: true }, // the console asks for the window's size
});
const fit = new FitAddon();

let socket = null;
let attempt = 0;
let timer = 0;

function show(state, text) {
  find("state").dataset.state = state;
  find("state").textContent = text;
}

// The address as Nova gives it, or this page's own with the token behind it; null if it is neither.
function readAddress(text) {
  let url;
  try {
    url = new URL(text.trim(), window.location.href);
  } catch {
    return null;
  }
  url.protocol = { "http:": "ws:", "https:": "wss:" }[url.protocol] ?? url.protocol;
  url.hash = "";
  return ["ws:", "wss:"].includes(url.protocol) && url.searchParams.get("token") ? url : null;
}

function send(text) {
  if (socket?.readyState === WebSocket.OPEN) {
    socket.send(encoder.encode(text));
  }
}

function reportSize() {
  send(`\x1b[8;${terminal.rows};${terminal.cols}t`);
}

function ask(title, why) {
  window.clearTimeout(timer);
  find("ask-title").textContent = title;
  find("ask-why").textContent = why;
  find("ask").hidden = false;
  find("address").value = "";
  find("address").focus();
}

function connect(url) {
  let heard = false;
  find("ask").hidden = true;
  show("waiting", attempt ? "Connecting again…" : "Connecting…");
  socket = new WebSocket(url, ["binary"]);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => reportSize();
  socket.onmessage = (event) => {
    if (!heard) {
      heard = true;
      if (attempt) {
        terminal.reset(); // the console shows what was there, once more
      }
      attempt = 0;
      show("open", "Connected");
      window.sessionStorage.setItem(KEPT, url.href);
    }
    terminal.write(new Uint8Array(event.data));
  };
  socket.onclose = () => part(url, heard);
  terminal.focus();
}

// The proxy accepts every connection and hangs up at once on a token that it does not know.
function part(url, heard) {
  if (!heard && attempt >= RETRIES.length) {
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

function zoom(step) {
  const size = terminal.options.fontSize + step;
  terminal.options.fontSize = Math.max(SIZES.smallest, Math.min(SIZES.largest, size));
  fit.fit();
  terminal.focus();
}

async function copy() {
  const text = terminal.getSelection();
  if (!text) {
    return;
  }
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    document.execCommand("copy"); // where the page is not served securely, there is no clipboard but this one
  }
  terminal.focus();
}

async function paste() {
  try {
    terminal.paste(await navigator.clipboard.readText());
  } catch {
    show(find("state").dataset.state, "Press Ctrl+Shift+V to paste");
  }
  terminal.focus();
}

function start() {
  terminal.loadAddon(fit);
  terminal.open(find("terminal"));
  fit.fit();
  terminal.onData(send);
  terminal.onBinary((text) => socket?.readyState === WebSocket.OPEN && socket.send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
  terminal.onResize(reportSize);
  terminal.onTitleChange((title) => {
    find("name").textContent = title || "Console";
    document.title = title ? `${title} – console` : "Console";
  });
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type === "keydown" && event.ctrlKey && event.shiftKey && event.code === "KeyC") {
      event.preventDefault();
      copy();
      return false;
    }
    return !(event.ctrlKey && event.shiftKey && event.code === "KeyV"); // the browser pastes
  });
  new ResizeObserver(() => fit.fit()).observe(find("terminal"));
  find("copy").onclick = copy;
  find("paste").onclick = paste;
  find("smaller").onclick = () => zoom(-1);
  find("larger").onclick = () => zoom(1);
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
  terminal.reset();
  connect(url);
}

start();
