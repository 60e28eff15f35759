// What is not of one service: traffic of all, datapaths, tables, addresses, the prober, warnings.

import { byId, fillTable, make, row, say, show, sync, table } from "./dom.js";
import { total } from "./judge.js";
import { line, meter } from "./plots.js";
import { lasting } from "./services.js";
import * as words from "./words.js";

const MOST_WARNINGS = 50;
const FIGURES = [
  ["Connections a second", (sum) => words.rate(sum.rates.connections), (at) => at.connections],
  ["Active connections", (sum) => words.whole(sum.active), (at) => at.active],
  ["In, bit/s", (sum) => words.bits(sum.rates.bytes_in), (at) => at.bytes_in],
  ["Out, bit/s", (sum) => words.bits(sum.rates.bytes_out), (at) => at.bytes_out],
];

export function traffic() {
  const figures = FIGURES.map(([label, value, of]) => {
    const number = make("span", { class: "figure" });
    const plot = line("large");
    byId("figures").append(make("div", {}, make("dt", {}, label), make("dd", {}, number, plot.element)));
    return (sum) => {
      say(number, value(sum));
      plot.update(sum.history.map(of), `${label.toLowerCase()} over the last ${words.span(lasting(sum.history))}`);
    };
  });
  return (overview) => {
    const sum = total(overview.services);
    figures.forEach((update) => update(sum));
  };
}

export function warnings(overview) {
  const all = overview.warnings;
  const shown = all.slice(0, MOST_WARNINGS);
  if (all.length > shown.length) shown.push(`and ${all.length - shown.length} more: kernlb status`);
  sync(byId("warnings-list"), shown, String, (text) => {
    const item = make("li", {}, text);
    return { nodes: [item], update: () => {} };
  });
  say(byId("warnings-count"), all.length ? String(all.length) : "");
  byId("warnings").classList.toggle("some", all.length > 0);
  say(byId("warnings-none"), "None.");
  show(byId("warnings-none"), !all.length);
}

/** One part of the host's section: hidden while there is nothing to tell. */
function part(title, columns) {
  const made = table(title, columns.map((label) => (typeof label === "string" ? { label } : label)));
  const element = make("div", { class: "part" }, make("div", { class: "wide" }, made.element));
  byId("host").append(element);
  return (items, keyOf, textsOf) => {
    show(element, items.length > 0);
    fillTable(made, items, keyOf, textsOf);
  };
}

const number = (label) => ({ label, numeric: true });

function tables() {
  const columns = [{ label: "Table" }, { label: "Full" }, number("Entries")];
  const made = table("XDP tables", columns);
  const element = make("div", { class: "part" }, make("div", { class: "wide" }, made.element));
  byId("host").append(element);
  return (items) => {
    show(element, items.length > 0);
    sync(made.body, items, (each) => each.name, () => {
      const { element: line, cells } = row(columns);
      const bar = meter();
      const part = make("span", { class: "figure" });
      cells[1].append(make("span", { class: "measured" }, bar.element, part));
      const update = (each) => {
        const full = each.size ? each.used / each.size : 0;
        say(cells[0], each.name);
        bar.update(full);
        say(part, words.percent(full));
        say(cells[2], `${words.whole(each.used)} of ${words.whole(each.size)}`);
      };
      return { nodes: [line], update };
    });
  };
}

export function host() {
  const datapaths = part("Datapaths", ["Datapath", "State", "Version"]);
  const interfaces = part("XDP interfaces", ["Interface", "Mode"]);
  const fill = tables();
  const vips = part("Addresses of services", ["Address", "Interface", "State"]);
  const unresolved = part("Next hops not known", ["Server", "Service", "Why"]);
  const faults = part("Faults in files", ["File", "Fault"]);
  const packets = part("Packets by what became of them, XDP", ["Reason", number("Packets"), number("Now, 1/s")]);
  const prober = part("Daemon", ["What", "Is"]);
  let before = null;

  return (overview) => {
    const { status } = overview;
    const xdp = status.xdp ?? { interfaces: [], tables: [], packets: {} };
    datapaths(status.datapaths, (each) => each.kind, (each) => [
      each.kind,
      each.available ? "available" : `not available${each.detail ? `: ${each.detail}` : ""}`,
      [each.version, each.available ? each.detail : ""].filter(Boolean).join(" · ") || "\u2013",
    ]);
    interfaces(xdp.interfaces, (each) => each.name, (each) => [
      each.name,
      each.error || (each.mode === "generic" ? "generic: slow" : each.mode || "no program"),
    ]);
    fill(xdp.tables);
    vips(status.vips, (each) => `${each.address} ${each.interface}`, (each) => [
      each.address,
      each.interface,
      vipState(each),
    ]);
    unresolved(xdp.unresolved ?? [], (each) => `${each.service} ${each.server}`, (each) => [
      each.server,
      each.service,
      each.reason,
    ]);
    faults(status.faults, (each) => `${each.file} ${each.line ?? 0} ${each.message}`, (each) => [
      each.file ? `${each.file}${each.line ? `:${each.line}` : ""}` : "\u2013",
      [each.key, each.message].filter(Boolean).join(": "),
    ]);
    const elapsed = before === null ? 0 : overview.time - before.time;
    const met = Object.entries(xdp.packets ?? {}).filter(([, packetsSeen]) => packetsSeen > 0);
    packets(met.sort((a, b) => b[1] - a[1]), ([reason]) => reason, ([reason, seen]) => [
      reason.replaceAll("_", " "),
      words.whole(seen),
      elapsed > 0 ? words.rate(Math.max(0, seen - (before.packets[reason] ?? 0)) / elapsed) : "\u2013",
    ]);
    if (elapsed !== 0 || before === null) before = { time: overview.time, packets: xdp.packets ?? {} };
    prober(aboutDaemon(overview), ([what]) => what, (each) => each);
  };
}

function vipState(vip) {
  if (vip.withdrawn) return "withdrawn: below quorum";
  if (!vip.present) return "missing";
  return vip.owned ? "present" : "present, not added by kernlb";
}

function aboutDaemon(overview) {
  const { status } = overview;
  const lines = [
    ["version", status.version],
    ["process", String(status.pid)],
    ["running for", words.span(overview.time - status.started)],
    ["last audit", status.last_audit ? `${words.span(overview.time - status.last_audit)} ago` : "not yet"],
    ["drift repaired", words.whole(status.drift_repaired)],
    ["counters read", `every ${words.span(overview.interval)}`],
  ];
  if (status.foreign.length) lines.push(["foreign services", status.foreign.join(", ")]);
  if (status.xdp) {
    lines.push(["XDP program", `${status.xdp.program}, ABI ${status.xdp.abi}, ${words.mebibytes(status.xdp.memory)} of tables`]);
    lines.push(["half-open connections", words.whole(status.xdp.half_open ?? 0)]);
  }
  if (status.health) {
    const { health } = status;
    lines.push(["probes", `${words.plural(health.targets, "target")}, ${health.down} down, ${health.waiting} waiting`]);
    lines.push(["probes start late by", `${words.took(health.lateness.p99)} (99 of 100)`]);
    if (health.suspended) lines.push(["prober", "starved: bad results count for nothing"]);
    if (health.partition_held) lines.push(["prober", "everything fails at once: verdicts wait"]);
  }
  return lines;
}
