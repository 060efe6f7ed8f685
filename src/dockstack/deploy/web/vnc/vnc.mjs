// SPDX-License-Identifier: Apache-2.0
// A server's VNC console in a browser: noVNC's client joined with Nova's noVNC proxy, which also serves this page.

import { find, Page, show } from "./page.mjs";
import RFB from "./vendor/novnc/core/rfb.js";

const ESCAPE = 0xff1b;
const RETURN = 0xff0d;
const UNICODE = 0x01000000; // begins the keysyms of all characters but Latin-1's, which are their own

const page = new Page({ kept: "vnc-address", join: connect, locate });

let rfb = null;

// Nova's address names the websocket's in its own query; one with the token in it is the websocket's itself.
function locate(url) {
  const path = url.searchParams.get("path");
  return path ? new URL(path.startsWith("?") ? `/${path}` : path, url.origin) : url;
}

function rename(name) {
  find("name").textContent = name;
  document.title = `${name} – noVNC`;
}

function connect(url) {
  let connected = false;
  const client = new RFB(find("terminal"), url.href, { shared: true, wsProtocols: ["binary"] });
  rfb = client;
  client.resizeSession = true; // the terminal has this window's size
  client.background = "#10141a";
  client.addEventListener("desktopname", (event) => rename(event.detail.name));
  client.addEventListener("connect", () => {
    connected = true;
    page.opened(url);
    client.focus();
  });
  client.addEventListener("disconnect", () => {
    rfb = null;
    page.closed(url, connected);
  });
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
  page.start();
}

start();
