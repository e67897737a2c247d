// BullMQ: 50 jobs at once on one connection, finished jobs removed.
// Speaks the protocol that protocol.py describes.

import { readFileSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

import { FlowProducer, Queue, Worker } from "bullmq";

const CONCURRENCY = 50;
const BATCH = 1000;
const WARM_UP = 20;
const NAME = "bench";
const PAYLOAD = { pad: "x".repeat(200 - JSON.stringify({ pad: "" }).length) };
const REMOVE = { removeOnComplete: true, removeOnFail: true };

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string" },
    workload: { type: "string", default: "drain" },
    "signal-fd": { type: "string" },
  },
});

const signalFd = options["signal-fd"] === undefined ? null : Number(options["signal-fd"]);
const connection = options.url.startsWith("unix://")
  ? { path: options.url.slice("unix://".length), maxRetriesPerRequest: null }
  : { ...hostAndPort(options.url), maxRetriesPerRequest: null };

function hostAndPort(url) {
  const parsed = new URL(url);
  return { host: parsed.hostname, port: Number(parsed.port) };
}

// The machine's monotonic clock in seconds, the same that Python's time.monotonic reads.
const monotonic = () => Number(process.hrtime.bigint()) / 1e9;
const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const say = (message) => writeSync(1, JSON.stringify(message) + "\n");

function stamp() {
  if (signalFd === null) return;
  const buffer = Buffer.alloc(8);
  buffer.writeDoubleLE(monotonic());
  writeSync(signalFd, buffer);
}

// The client's end of the pipe: the moments at which stamped jobs began.
class Starts {
  constructor(fd) {
    this.moments = [];
    this.wake = null;
    new Socket({ fd, readable: true, writable: false }).on("data", (chunk) => {
      for (let at = 0; at < chunk.length; at += 8) this.moments.push(chunk.readDoubleLE(at));
      this.wake?.();
    });
  }

  async next() {
    while (this.moments.length === 0) {
      await new Promise((resolve) => (this.wake = resolve));
    }
    return this.moments.shift();
  }
}

async function timed(work) {
  const cpu = cpuSeconds();
  const begin = monotonic();
  await work();
  return { seconds: monotonic() - begin, cpu: cpuSeconds() - cpu };
}

async function client() {
  const queue = new Queue(NAME, { connection, defaultJobOptions: REMOVE });
  await queue.waitUntilReady();
  const starts = signalFd === null ? null : new Starts(signalFd);
  const version = (name) =>
    JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;

  const answers = {
    submit: ({ n }) =>
      timed(async () => {
        for (let i = 0; i < n; i++) await queue.add("noop", PAYLOAD);
      }),
    submit_many: ({ n }) =>
      timed(async () => {
        for (let start = 0; start < n; start += BATCH) {
          const count = Math.min(BATCH, n - start);
          await queue.addBulk(Array.from({ length: count }, () => ({ name: "noop", data: PAYLOAD })));
        }
      }),
    latency: async ({ n, gap }) => {
      const samples = [];
      for (let i = 0; i < WARM_UP + n; i++) {
        const submitted = monotonic();
        await queue.add("stamp", PAYLOAD);
        samples.push((await starts.next()) - submitted);
        await sleep(gap);
      }
      return { samples: samples.slice(WARM_UP) };
    },
    graph: async ({ width }) => {
      const begin = monotonic();
      await queue.add("root", { width });
      return { seconds: (await starts.next()) - begin };
    },
  };

  say({
    ready: true,
    bulk: "addBulk",
    remaining: {
      mode: "remaining",
      commands: [
        ["LLEN", `bull:${NAME}:wait`],
        ["LLEN", `bull:${NAME}:active`],
      ],
    },
    versions: { bullmq: version("bullmq"), ioredis: version("ioredis"), node: process.versions.node },
  });
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    if (request.op === "stop") break;
    say(await answers[request.op](request));
  }
  process.exit(0);
}

async function worker() {
  let count = 0;
  let first = 0;
  let last = 0;
  const flows = new FlowProducer({ connection });
  const handlers = {
    noop: () => {
      last = monotonic();
      if (count++ === 0) first = last;
    },
    stamp,
    join: stamp,
    middle: () => {},
    // A job has one parent at most, so the root adds the join with its children as it runs.
    root: async (job) => {
      const children = Array.from({ length: job.data.width }, () => ({
        name: "middle",
        queueName: NAME,
        opts: REMOVE,
      }));
      await flows.add({ name: "join", queueName: NAME, opts: REMOVE, children });
    },
  };
  const consumer = new Worker(NAME, async (job) => handlers[job.name](job), {
    connection,
    concurrency: CONCURRENCY,
    autorun: false,
  });
  consumer.on("error", (error) => console.error(error));
  await consumer.waitUntilReady();
  await flows.waitUntilReady();
  say({ ready: true });
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    if (request.op === "stop") break;
    if (request.op === "go") {
      consumer.run();
    } else {
      const rss = process.resourceUsage().maxRSS / 1024;
      say({ count, first, last, cpu: cpuSeconds(), rss_mib: rss });
    }
  }
  process.exit(0);
}

await (positionals[0] === "client" ? client() : worker());
