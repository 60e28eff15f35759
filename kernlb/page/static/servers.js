// The servers of one service, in the row below it. Built when it is opened, bounded always.

import { make, row, say, set, show, sync, table } from "./dom.js";
import { labels, seesAnswers } from "./judge.js";
import { bullet, mark, strip } from "./plots.js";
import * as words from "./words.js";

const STEP = 100;

const COLUMNS = [
  { label: "Server" },
  { label: "State" },
  { label: "Latest checks" },
  { label: "Weight", numeric: true, hint: "declared; in force where it differs" },
  { label: "Share, %", hint: "of the connections begun lately, beside what its weight promises" },
  { label: "Active", numeric: true, hint: "connections" },
  { label: "Conn/s", numeric: true },
  { label: "In, bit/s", numeric: true },
  { label: "Out, bit/s", numeric: true, hint: "seen where answers pass the balancer: nat and fullnat" },
];

/** `update(service, overview)` fills it. */
export function serversOf() {
  const made = table("", COLUMNS);
  const { caption } = made.element;
  caption.className = "aside";
  const note = make("p", { class: "note" });
  const more = make("button", { type: "button" }, `Show ${STEP} more`);
  const element = make("div", { class: "servers" }, note, make("div", { class: "wide" }, made.element), more);
  let bound = STEP;
  let last = [];
  let full = 1; // share that a whole bar stands for
  more.addEventListener("click", () => {
    bound += STEP;
    update(...last);
  });

  function update(service, overview) {
    last = [service, overview];
    say(caption, `Servers of ${service.name || service.key}`);
    const said = [service.error, service.phase === "serving" ? "" : service.phase].filter(Boolean).join(" · ");
    say(note, said);
    show(note, said !== "");
    show(made.element, service.servers.length > 0);
    const shown = service.servers.slice(0, bound);
    full = Math.max(...shown.map((each) => Math.max(each.promised, each.received ?? 0)), 1e-9) * 1.1;
    sync(made.body, shown, (server) => server.server, () => serverRow(() => [last[1], full]));
    show(more, service.servers.length > bound);
  }
  return { element, update };
}

function serverRow(context) {
  const { element, cells } = row(COLUMNS);
  const [name, state, checks, weight, share, active, rate, inward, outward] = cells;
  const label = make("span", { class: "sub" });
  const address = make("span", { class: "address" });
  name.append(address, label);
  const sign = mark();
  const word = make("span", { class: "word" });
  const since = make("span", { class: "quiet" });
  const why = make("span", { class: "why" });
  state.append(make("span", { class: "status" }, sign.element, word), " ", since, why);
  const results = strip();
  const check = make("span", { class: "sub" });
  checks.append(results.element, check);
  const bar = bullet();
  const shares = make("span", { class: "shares" });
  share.append(make("span", { class: "measured" }, bar.element, shares));

  const update = (server) => {
    const [overview, full] = context();
    say(address, server.server);
    say(label, [server.forwarding, labels(server)].filter(Boolean).join(" · "));
    sign.update(server.kind);
    say(word, server.state);
    say(since, server.since ? `since ${words.span(overview.time - server.since)}` : "");
    set(since, "title", server.since ? words.exact(server.since) : null);
    say(why, server.why);
    show(why, server.why !== "");
    set(results.element, "class", server.check ? "strip" : "strip none");
    results.update(server.strip);
    say(check, watched(server));
    say(weight, server.weight === server.effective_weight ? `${server.weight}` : `${server.effective_weight} of ${server.weight}`);
    bar.update(server.received, server.promised, full);
    say(shares, `${words.share(server.received)} of ${words.share(server.promised)}`);
    say(active, words.whole(server.active));
    say(rate, words.rate(server.rates.connections));
    say(inward, words.bits(server.rates.bytes_in));
    say(outward, seesAnswers(server) ? words.bits(server.rates.bytes_out) : "\u2013");
  };
  return { nodes: [element], update };
}

/** tcp, up, 0.4 ms */
function watched(server) {
  if (!server.check) return "not checked";
  const condition = server.condition && server.condition !== server.state ? server.condition : "";
  return [server.check, condition, server.duration ? words.took(server.duration) : ""].filter(Boolean).join(", ");
}
