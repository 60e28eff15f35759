// What the daemon says, made of one shape, judged, filtered and put in order. Pure.

const NO_RATES = { connections: 0, packets_in: 0, packets_out: 0, bytes_in: 0, bytes_out: 0 };
const SERVER = { active: 0, inactive: 0, persistent: 0, rates: NO_RATES, check: "", why: "", strip: "", labels: {} };
const SERVICE = { error: "", phase: "", active: 0, inactive: 0, rates: NO_RATES, history: [], labels: {}, servers: [] };

const KINDS = {
  up: "good",
  sorry: "warn",
  standby: "idle",
  draining: "warn",
  drained: "idle",
  disabled: "idle",
  waiting: "wait",
  down: "bad",
  inhibited: "bad",
  kept: "bad",
  spared: "warn",
  leaving: "warn",
};
const BROKEN = new Set(["failed", "conflict", "invalid"]);
const GRAVITY = ["bad", "warn", "wait", "idle", "good"];

export const kindOf = (state) => KINDS[state] ?? "warn";

/** An overview with nothing left out and every service judged. */
export function complete(overview) {
  const services = overview.services.map((service) => {
    const servers = (service.servers ?? []).map((server) => ({ ...SERVER, ...server, kind: kindOf(server.state) }));
    const whole = { ...SERVICE, ...service, servers };
    whole.kinds = servers.map((server) => server.kind);
    [whole.kind, whole.word] = judged(whole);
    return whole;
  });
  return { ...overview, services, warnings: overview.warnings ?? [] };
}

/** How a service is, gravest first: what to mark it with, and one word or two. */
function judged(service) {
  const inUse = service.servers.filter((server) => server.state !== "standby");
  if (BROKEN.has(service.state)) return ["bad", service.state];
  if (service.state === "foreign") return ["idle", "foreign"];
  if (!service.servers.length) return ["warn", "no servers"];
  if (service.phase === "all down" || service.phase === "below quorum") return ["bad", service.phase];
  if (!service.serving) return ["bad", "nobody serves"];
  if (service.kinds.includes("bad")) return ["warn", "degraded"];
  if (service.state === "pending") return ["wait", "pending"];
  if (inUse.some((server) => server.kind === "wait")) return ["wait", "waiting"];
  if (inUse.some((server) => server.kind === "warn")) return ["warn", "changing"];
  return ["good", "serving"];
}

/** The first thing that is wrong with it, in words; "" where nothing is. */
export function trouble(service) {
  if (service.error) return service.error;
  const bad = service.servers.filter((server) => server.kind === "bad");
  if (!bad.length) return "";
  const [first] = bad;
  const more = bad.length > 1 ? ` (and ${bad.length - 1} more)` : "";
  return `${first.server} ${first.state}${first.why ? `: ${first.why}` : ""}${more}`;
}

const text = (service) =>
  [
    service.name,
    service.key,
    service.datapath,
    service.scheduler,
    service.state,
    service.word,
    service.phase,
    service.error,
    labels(service),
    ...service.servers.flatMap((server) => [server.server, server.state, server.forwarding, server.why, labels(server)]),
  ]
    .join("\n")
    .toLowerCase();

export const labels = (one) =>
  Object.entries(one.labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");

export const terms = (filter) => filter.toLowerCase().split(/\s+/).filter(Boolean);

/** Whether every word of a filter is somewhere in it. */
export function matches(service, words) {
  if (!words.length) return true;
  const all = text(service);
  return words.every((word) => all.includes(word));
}

export function eventMatches(event, words) {
  if (!words.length) return true;
  const all = [event.text, event.cause, event.service, event.server].join("\n").toLowerCase();
  return words.every((word) => all.includes(word));
}

const byName = new Intl.Collator("en", { numeric: true });
const name = (a, b) => byName.compare(a.name || a.key, b.name || b.key);
const down = (of) => (a, b) => of(b) - of(a) || name(a, b);

export const ORDERS = {
  trouble: ["trouble first", (a, b) => GRAVITY.indexOf(a.kind) - GRAVITY.indexOf(b.kind) || name(a, b)],
  name: ["name", name],
  active: ["active connections", down((service) => service.active)],
  connections: ["connections a second", down((service) => service.rates.connections)],
  in: ["bits in", down((service) => service.rates.bytes_in)],
  out: ["bits out", down((service) => service.rates.bytes_out)],
};

/** What all services take together, as one service has it: rates, active, history. */
export function total(services) {
  const sum = { rates: { ...NO_RATES }, active: 0, history: [] };
  const longest = Math.max(0, ...services.map((service) => service.history.length));
  const moments = Array.from({ length: longest }, () => ({ time: 0, connections: 0, bytes_in: 0, bytes_out: 0, active: 0 }));
  for (const service of services) {
    sum.active += service.active;
    for (const each of Object.keys(NO_RATES)) sum.rates[each] += service.rates[each] ?? 0;
    // readings of one sweep stand equally far from the end
    const first = longest - service.history.length;
    service.history.forEach((moment, index) => {
      const at = moments[first + index];
      at.time = Math.max(at.time, moment.time);
      for (const each of ["connections", "bytes_in", "bytes_out", "active"]) at[each] += moment[each];
    });
  }
  sum.history = moments;
  return sum;
}

/** Whether the balancer sees the answers of a server. */
export const seesAnswers = (server) => server.forwarding === "nat" || server.forwarding === "fullnat";
