// An agent in JavaScript: Node 18 or newer, nothing to install.
//
//   node agent.mjs
//
// It registers, reads its tasks as a stream of server-sent events, and completes each by a
// request. Where the stream breaks it comes back, and is given again what it holds. SIGTERM or
// Ctrl-C: what it has in hand is finished, then it leaves.
//
//   CALLBOARD_COORDINATOR   http://127.0.0.1:9001
//   CALLBOARD_API_KEY       none, as on one's own machine
//   AGENT                   its name, node-agent
//   AT_ONCE                 tasks at once, 4

const base = process.env.CALLBOARD_COORDINATOR ?? "http://127.0.0.1:9001";
const agent = process.env.AGENT ?? "node-agent";
const atOnce = Number(process.env.AT_ONCE ?? 4);
const key = process.env.CALLBOARD_API_KEY;
const headers = key ? { authorization: `Bearer ${key}` } : {};

// What it can do: by kind of task. What is returned is the result; what is thrown, the error.
const handlers = {
  async shout({ text }) {
    return text.toUpperCase() + "!";
  },
  async divide({ a, b }) {
    if (b === 0) throw new Error(`${a} cannot be divided by zero`);
    return a / b;
  },
};

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

// Sends JSON. Repeats what got no answer, or 503: all that is sent here has an id or a fence.
async function send(verb, path, body) {
  for (let turn = 1; ; turn += 1) {
    try {
      const answer = await fetch(base + path, {
        method: verb,
        headers: { ...headers, "content-type": "application/json" },
        body: JSON.stringify(body ?? {}),
      });
      const found = await answer.json();
      if (answer.ok) return found;
      if (answer.status !== 503) {
        throw Object.assign(new Error(found.detail ?? found.message), { code: found.code });
      }
    } catch (error) {
      if (error.code !== undefined || turn === 30) throw error;
    }
    await pause(1);
  }
}

// The events of a stream, one after the other: EventSource for where there is none.
async function* events(path, lastId, signal) {
  const asked = lastId ? { ...headers, "last-event-id": lastId } : headers;
  const answer = await fetch(base + path, { headers: asked, signal });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  let rest = "";
  for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { event: "message", data: "", id: "" };
      for (const line of block.split("\n")) {
        const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name === "data") event.data += (event.data ? "\n" : "") + value;
        else if (name) event[name] = value;
      }
      if (event.data) yield event;
    }
  }
}

async function work(task) {
  const handle = handlers[task.kind];
  try {
    const result = await handle(task.payload);
    await send("POST", `/tasks/${task.id}/complete`, { fence: task.fence, result });
    console.log(`${task.id}: done`);
  } catch (error) {
    if (error.code === "lease_lost") return console.log(`${task.id}: is another's now`);
    const failure = { type: error.name, message: error.message, retryable: true };
    const body = { fence: task.fence, error: failure };
    await send("POST", `/tasks/${task.id}/fail`, body);
    console.log(`${task.id}: failed, ${error.message}`);
  }
}

const leaving = new AbortController();
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => leaving.abort());

await send("PUT", `/agents/${agent}`, {
  kinds: Object.keys(handlers),
  max_concurrent: atOnce,
});
console.log(`Agent ${agent} waits for tasks.`);

const inHand = new Map();
let last = "";
while (!leaving.signal.aborted) {
  try {
    const path = `/agents/${agent}/tasks/stream?limit=${atOnce}&renew=true`;
    for await (const event of events(path, last, leaving.signal)) {
      if (event.event !== "task") continue;
      last = event.id;
      const task = JSON.parse(event.data);
      if (inHand.has(task.fence)) continue; // Told again, as the stream had broken.
      const doing = work(task)
        .catch((error) => console.error(`${task.id}: ${error.message}`))
        .finally(() => inHand.delete(task.fence));
      inHand.set(task.fence, doing);
    }
  } catch (error) {
    if (!leaving.signal.aborted) console.error(`The stream broke: ${error.message}`);
  }
  if (!leaving.signal.aborted) await pause(1);
}

await Promise.allSettled(inHand.values());
await send("POST", `/agents/${agent}/leave`);
console.log(`Agent ${agent} has left.`);
