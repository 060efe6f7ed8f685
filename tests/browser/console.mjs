// SPDX-License-Identifier: Apache-2.0
// Use the console page as a person does, in a headless Chromium, over its debugging protocol; no package is needed.
// node --experimental-websocket console.mjs ADDRESS PICTURE-DIRECTORY: prints one JSON object: what the page showed.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [address, pictures] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "dockstack-browser-"));
const browser = spawn("chromium", [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0",
  `--user-data-dir=${profile}`, "--window-size=1000,640", "about:blank",
], { stdio: ["ignore", "ignore", "pipe"] });

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function connect(url) {
  const socket = new WebSocket(url);
  const waiting = new Map();
  let number = 0;
  const events = [];
  await new Promise((done, fail) => Object.assign(socket, { onopen: done, onerror: fail }));
  socket.onmessage = ({ data }) => {
    const { id, result, error, method, params } = JSON.parse(data);
    if (id) {
      error ? waiting.get(id).fail(new Error(error.message)) : waiting.get(id).done(result);
    } else {
      events.push({ method, params });
    }
  };
  const call = (method, params = {}) => new Promise((done, fail) => {
    number += 1;
    waiting.set(number, { done, fail });
    socket.send(JSON.stringify({ id: number, method, params }));
  });
  return { call, events };
}

async function debuggerAddress() {
  let said = "";
  for await (const piece of browser.stderr) {
    said += piece;
    const found = /ws:\/\/([^/\s]+)\/devtools/.exec(said);
    if (found) {
      browser.stderr.resume();
      const pages = await (await fetch(`http://${found[1]}/json/list`)).json();
      return pages.find((page) => page.type === "page").webSocketDebuggerUrl;
    }
  }
  throw new Error(`chromium did not start: ${said}`);
}

process.on("exit", () => browser.kill());
const { call, events } = await connect(await debuggerAddress());
const evaluate = async (expression) => (await call("Runtime.evaluate", { expression, returnByValue: true })).result.value;
const text = () => evaluate('[...document.querySelectorAll(".xterm-rows > div")].map((row) => row.textContent).join("\\n")');
const state = () => evaluate('document.getElementById("state").textContent');

async function until(read, wanted, what) {
  for (let round = 0; round < 150; round += 1) {
    const found = await read();
    if (wanted(found)) {
      return found;
    }
    await sleep(200);
  }
  throw new Error(`${what} did not happen; the page shows:\n${await state()}\n${await text()}`);
}

async function type(keys) {
  for (const key of keys) {
    if (key === "\r") {
      const enter = { key: "Enter", code: "Enter", windowsVirtualKeyCode: 13 };
      await call("Input.dispatchKeyEvent", { type: "keyDown", text: "\r", ...enter });
      await call("Input.dispatchKeyEvent", { type: "keyUp", ...enter });
    } else {
      await call("Input.dispatchKeyEvent", { type: "char", text: key });
    }
  }
}

async function picture(name) {
  const { data } = await call("Page.captureScreenshot", { format: "png" });
  writeFileSync(join(pictures, name), Buffer.from(data, "base64"));
}

async function exercise() {
  await call("Page.enable");
  await call("Runtime.enable");
  await call("Log.enable");
  await call("Page.navigate", { url: address });
  await until(state, (found) => found === "Connected", "connecting");
  await until(text, (found) => found.includes("init: up"), "the log");
  await type("\r");
  await until(text, (found) => found.includes("# "), "a prompt");
  await type("ps; stty size\r");
  const shown = await until(text, (found) => /^\d+ \d+/m.test(found), "an answer");
  const name = await evaluate("document.title");
  const location = await evaluate("location.href");
  await type("clear; PS1='\\u@\\h:\\w\\$ '\r");
  await sleep(500);
  await type("id; ip -o addr show eth0; df -h / | tail -1; ls /\r");
  await sleep(1500);
  await picture("console.png");
  await call("Emulation.setDeviceMetricsOverride", { width: 640, height: 480, deviceScaleFactor: 1, mobile: false });
  await sleep(800);
  await type("clear; stty size\r");
  const smaller = await until(text, (found) => /^\d+ \d+/m.test(found), "the smaller size");
  await call("Emulation.clearDeviceMetricsOverride");
  await call("Page.reload");
  await until(state, (found) => found === "Connected", "connecting after a reload");
  await call("Page.navigate", { url: address.replace(/token=.*/, "token=guess") });
  await until(() => evaluate('document.getElementById("ask-title").textContent'), (found) => found === "This address has expired", "the refusal");
  await picture("expired.png");
  const complaints = events.filter(({ method }) => method === "Runtime.exceptionThrown" || method === "Log.entryAdded")
    .map(({ params }) => params.entry?.text ?? params.exceptionDetails.exception?.description)
    .filter((complaint) => !complaint.includes("WebSocket connection to"));
  const size = (found) => /^(\d+ \d+)/m.exec(found)[1];
  console.log(JSON.stringify({ name, location, size: size(shown), smaller: size(smaller), complaints }));
}

try {
  await exercise();
} finally {
  browser.kill();
  await new Promise((done) => browser.once("exit", done));
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
process.exit(0);
