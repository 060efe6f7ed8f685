// SPDX-License-Identifier: Apache-2.0
// Use the VNC console's page as a person does, in a headless Chromium.
// node --experimental-websocket vnc.mjs ADDRESS PICTURE-DIRECTORY SCRIPT: types the script's lines ("^C" is a key), each when the
// picture stands still after the one before; keeps what the canvas shows in canvas.png, and prints one JSON object.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { sleep, use } from "./browser.mjs";

const [address, pictures, script] = process.argv.slice(2);
const PIXELS = 'document.querySelector("#terminal canvas").toDataURL()';

await use(address, pictures, async (page) => {
  const state = () => page.text("state");
  const look = () => page.evaluate(PIXELS);
  const settle = async (before) => {
    let last = before;
    await page.until(look, (found) => found !== before, "another picture");
    await page.until(async () => {
      await sleep(600);
      const found = await look();
      const still = found === last;
      last = found;
      return still;
    }, Boolean, "a still picture");
  };
  const size = () => page.evaluate('(({ width, height }) => [width, height])(document.querySelector("#terminal canvas"))');
  await page.until(state, (found) => found === "Connected", "connecting");
  await page.until(() => page.text("name"), (found) => found !== "Console", "the name");
  await sleep(500);
  const name = await page.evaluate("document.title");
  const location = await page.evaluate("location.href");
  for (const line of script.split("\n")) {
    const before = await look();
    await (line === "^C" ? page.control("c") : page.type(`${line}\r`));
    await settle(before);
  }
  writeFileSync(join(pictures, "canvas.png"), Buffer.from((await look()).split(",")[1], "base64"));
  await page.picture("vnc.png");
  const first = await size();
  await page.resize(640, 480);
  await page.until(size, ([width]) => width < first[0], "the smaller size");
  await sleep(1000);
  const smaller = await size();
  await page.picture("vnc-smaller.png");
  await page.call("Emulation.clearDeviceMetricsOverride");
  await page.call("Page.reload");
  await page.until(state, (found) => found === "Connected", "connecting after a reload");
  await page.call("Page.navigate", { url: address.replace(/token%3D.*/, "token%3Dguess") });
  await page.until(() => page.text("ask-title"), (found) => found === "This address has expired", "the refusal");
  return { name, location, first, smaller };
});
