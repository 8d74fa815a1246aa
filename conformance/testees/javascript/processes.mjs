/** Runs a process of the implementation, with the environment and the descriptors that the suite asks for. */

import { execFileSync, spawn } from "node:child_process";
import { closeSync, constants, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";

const SCRIPT = fileURLToPath(new URL("./emitter_process.mjs", import.meta.url));
const RANKS = /^(XTRACK_.*|RANK|WORLD_SIZE|LOCAL_RANK|TORCHELASTIC_.*|OMPI_.*|PMI_.*|PMIX_.*|SLURM_.*)$/;
const base64 = (bytes) => bytes.toString("base64");

const all = (stream) =>
  new Promise((resolve) => {
    const parts = [];
    stream.on("data", (bytes) => parts.push(bytes));
    stream.on("error", () => {});
    stream.on("close", () => resolve(Buffer.concat(parts)));
  });

/** A real pipe: Node's own "pipe" is a pair of sockets, and an emitter tells these apart (EMT-2.5). */
function pipe(path) {
  execFileSync("mkfifo", [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY);
  return { reader, writer };
}

function environment(env, home) {
  const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !RANKS.test(name)));
  return { ...own, XTRACK_DIR: home, ...env };
}

export async function runProcess({
  env = {},
  descriptors = {},
  stdin = "",
  send = {},
  read = [],
  calls = [],
  ending = "return",
}, shared) {
  const folder = mkdtempSync(join(tmpdir(), "xtrack-process-"));
  // What XTRACK_DIR names, and the working folder.
  const home = shared ?? join(folder, "xtrack");
  const work = shared === undefined ? folder : join(shared, "work");
  const spec = join(folder, "calls.json");
  writeFileSync(spec, JSON.stringify({ calls, ending }));
  const stdio = ["pipe", "pipe", "pipe"];
  const close = [];
  const told = {};
  for (const [number, kind] of Object.entries(descriptors)) {
    const fd = Number(number);
    while (stdio.length <= fd) stdio.push("ignore");
    if (kind === "socket") stdio[fd] = "pipe";
    else if (kind === "file") {
      const path = join(folder, `descriptor-${fd}`);
      stdio[fd] = openSync(path, "w+");
      close.push(stdio[fd]);
      told[fd] = () => readFileSync(path);
    } else {
      const { reader, writer } = pipe(join(folder, `descriptor-${fd}`));
      stdio[fd] = writer;
      close.push(writer);
      const bytes = all(new Socket({ fd: reader, readable: true, writable: false }));
      told[fd] = () => bytes;
    }
  }
  // Standard input is a real pipe, too.
  const input = pipe(join(folder, "stdin"));
  stdio[0] = input.reader;
  const child = spawn(process.execPath, [SCRIPT, spec], { cwd: work, env: environment(env, home), stdio });
  for (const fd of close) closeSync(fd);
  const ended = new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal })));
  writeFileSync(input.writer, Buffer.from(stdin, "base64"));
  closeSync(input.writer);
  closeSync(input.reader);
  for (const [number, kind] of Object.entries(descriptors)) {
    if (kind !== "socket") continue;
    const socket = child.stdio[Number(number)];
    const bytes = all(socket);
    told[number] = () => bytes;
    if (send[number] !== undefined) socket.write(Buffer.from(send[number], "base64"));
  }
  const [out, errors] = [all(child.stdout), all(child.stderr)];
  const { code, signal } = await ended;
  const result = { descriptors: { 1: base64(await out) }, files: {} };
  for (const [number, bytes] of Object.entries(told)) result.descriptors[number] = base64(await bytes());
  for (const path of read) {
    const full = isAbsolute(path) ? path : join(work, path);
    result.files[path] = existsSync(full) ? base64(readFileSync(full)) : null;
  }
  result.calls = existsSync(`${spec}.calls`) ? JSON.parse(readFileSync(`${spec}.calls`, "utf-8")) : [];
  result.told = (await errors)
    .toString()
    .split("\n")
    .filter((line) => line !== "");
  result.status = signal === null ? code : -({ SIGTERM: 15, SIGINT: 2, SIGKILL: 9 }[signal] ?? 1);
  rmSync(folder, { recursive: true, force: true });
  return result;
}
