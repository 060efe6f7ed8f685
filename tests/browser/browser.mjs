// SPDX-License-Identifier: Apache-2.0
// A headless Chromium, over its debugging protocol: no package is needed but Node.js 20 or later.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const CONTROL = 2; // of the protocol's modifiers

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

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

async function debuggerAddress(browser) {
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

// Open an address, use the page, print what was seen as one JSON object, and leave nothing running.
export async function use(address, pictures, exercise) {
  const profile = mkdtempSync(join(tmpdir(), "dockstack-browser-"));
  const browser = spawn("chromium", [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0",
    `--user-data-dir=${profile}`, "--window-size=1000,640", "about:blank",
  ], { stdio: ["ignore", "ignore", "pipe"], detached: true });
  process.on("exit", () => end(browser));
  try {
    const page = new Page(await connect(await debuggerAddress(browser)), pictures);
    await page.open(address);
    const seen = await exercise(page);
    console.log(JSON.stringify({ ...seen, complaints: page.complaints() }));
  } finally {
    const running = browser.exitCode === null && browser.signalCode === null;
    const ended = running ? new Promise((done) => browser.once("exit", done)) : null;
    end(browser);
    await ended;
    await remove(profile);
  }
  process.exit(0);
}

// End the browser with all its processes: those outlive the first one, and write into the profile until they end.
function end(browser) {
  try {
    process.kill(-browser.pid, "SIGKILL");
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

// Remove the profile; processes that are being killed may still finish a write.
async function remove(profile) {
  for (let tries = 1; ; tries += 1) {
    try {
      return rmSync(profile, { recursive: true, force: true });
    } catch (error) {
      if (error.code !== "ENOTEMPTY" || tries === 50) throw error;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

class Page {
  constructor({ call, events }, pictures) {
    Object.assign(this, { call, events, pictures });
  }

  async open(address) {
    await this.call("Page.enable");
    await this.call("Runtime.enable");
    await this.call("Log.enable");
    await this.call("Page.navigate", { url: address });
  }

  async evaluate(expression) {
    return (await this.call("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true })).result.value;
  }

  text(id) {
    return this.evaluate(`document.getElementById(${JSON.stringify(id)}).textContent`);
  }

  async until(read, wanted, what) {
    let found;
    for (let round = 0; round < 150; round += 1) {
      found = await read();
      if (wanted(found)) {
        return found;
      }
      await sleep(200);
    }
    throw new Error(`${what} did not happen; the page is "${await this.text("state")}" and shows:\n${found}`);
  }

  // As a keyboard does: down and up of each key.
  async type(keys) {
    for (const key of keys) {
      const enter = key === "\r";
      const named = enter
        ? { key: "Enter", code: "Enter", windowsVirtualKeyCode: 13 }
        : { key, code: /[a-z]/i.test(key) ? `Key${key.toUpperCase()}` : "" };
      await this.call("Input.dispatchKeyEvent", { type: "keyDown", text: key, ...named });
      await this.call("Input.dispatchKeyEvent", { type: "keyUp", ...named });
    }
  }

  async control(letter) {
    const held = { key: "Control", code: "ControlLeft", windowsVirtualKeyCode: 17 };
    const key = { key: letter, code: `Key${letter.toUpperCase()}`, modifiers: CONTROL };
    await this.call("Input.dispatchKeyEvent", { type: "keyDown", ...held, modifiers: CONTROL });
    await this.call("Input.dispatchKeyEvent", { type: "keyDown", ...key });
    await this.call("Input.dispatchKeyEvent", { type: "keyUp", ...key });
    await this.call("Input.dispatchKeyEvent", { type: "keyUp", ...held });
  }

  async picture(name) {
    const { data } = await this.call("Page.captureScreenshot", { format: "png" });
    writeFileSync(join(this.pictures, name), Buffer.from(data, "base64"));
  }

  resize(width, height) {
    return this.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
  }

  complaints() {
    return this.events.filter(({ method }) => method === "Runtime.exceptionThrown" || method === "Log.entryAdded")
      .map(({ params }) => params.entry?.text ?? params.exceptionDetails.exception?.description)
      // Of a console that hangs up, and of reading pictures back, which only we do.
      .filter((complaint) => !/WebSocket connection to|Canvas2D: Multiple readback/.test(complaint));
  }
}
