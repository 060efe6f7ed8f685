// SPDX-License-Identifier: Apache-2.0
// A server's serial console in a browser: a terminal joined with Nova's serial proxy, which also serves this page.

import { find, Page, show } from "./page.mjs";
import { FitAddon } from "./vendor/addon-fit.mjs";
import { Terminal } from "./vendor/xterm.mjs";

const SIZES = { smallest: 9, usual: 14, largest: 28 };

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

const page = new Page({ kept: "console-address", join: connect });

let socket = null;

function send(text) {
  if (socket?.readyState === WebSocket.OPEN) {
    socket.send(encoder.encode(text));
  }
}

function reportSize() {
  send(`\x1b[8;${terminal.rows};${terminal.cols}t`);
}

function connect(url) {
  let heard = false;
  socket = new WebSocket(url, ["binary"]);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => reportSize();
  socket.onmessage = (event) => {
    if (!heard) {
      heard = true;
      terminal.reset(); // the console shows what was there, once more
      page.opened(url);
    }
    terminal.write(new Uint8Array(event.data));
  };
  socket.onclose = () => page.closed(url, heard);
  terminal.focus();
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
  page.start();
}

start();
