// SPDX-License-Identifier: Apache-2.0
// Use the console page as a person does, in a headless Chromium.
// node --experimental-websocket console.mjs ADDRESS PICTURE-DIRECTORY: prints one JSON object: what the page showed.

import { sleep, use } from "./browser.mjs";

const [address, pictures] = process.argv.slice(2);
const ROWS = '[...document.querySelectorAll(".xterm-rows > div")].map((row) => row.textContent).join("\\n")';
const SIZE = /^(\d+ \d+)/m;

await use(address, pictures, async (page) => {
  const text = () => page.evaluate(ROWS);
  const state = () => page.text("state");
  await page.until(state, (found) => found === "Connected", "connecting");
  await page.until(text, (found) => found.includes("init: up"), "the log");
  await page.type("\r");
  await page.until(text, (found) => found.includes("# "), "a prompt");
  await page.type("ps; stty size\r");
  const shown = await page.until(text, (found) => SIZE.test(found), "an answer");
  const name = await page.evaluate("document.title");
  const location = await page.evaluate("location.href");
  await page.type("clear; PS1='\\u@\\h:\\w\\$ '\r");
  await sleep(500);
  await page.type("id; ip -o addr show eth0; df -h / | tail -1; ls /\r");
  await sleep(1500);
  await page.picture("console.png");
  await page.resize(640, 480);
  await sleep(800);
  await page.type("clear; stty size\r");
  const smaller = await page.until(text, (found) => SIZE.test(found), "the smaller size");
  await page.call("Emulation.clearDeviceMetricsOverride");
  await page.call("Page.reload");
  await page.until(state, (found) => found === "Connected", "connecting after a reload");
  await page.call("Page.navigate", { url: address.replace(/token=.*/, "token=guess") });
  await page.until(() => page.text("ask-title"), (found) => found === "This address has expired", "the refusal");
  await page.picture("expired.png");
  return { name, location, size: SIZE.exec(shown)[1], smaller: SIZE.exec(smaller)[1] };
});
