// The page: joins what asks with what shows, and says how fresh it is.

import { byId, say, set } from "./dom.js";
import { EventList } from "./events.js";
import { Feed } from "./feed.js";
import { Histories } from "./histories.js";
import * as host from "./host.js";
import { ORDERS, complete } from "./judge.js";
import { Services } from "./services.js";
import { plural, span } from "./words.js";

const TICK = 500; // milliseconds between two looks at the age of what is shown

const chosen = remembered();
const events = new EventList(chosen);
const services = new Services(chosen, () => {
  remember();
  services.render();
  events.render();
});
const traffic = host.traffic();
const hostParts = host.host();
const histories = new Histories();
const feed = new Feed(
  { overview: () => histories.query, events: (more) => events.query + more },
  answered,
);

function answered(answer, eventsAnswer) {
  const overview = complete(answer);
  histories.fill(overview.services);
  const { status } = overview;
  const servers = `${status.serving} of ${plural(status.servers, "server")} serving`;
  say(byId("daemon"), `kernlbd ${status.version}, up ${span(overview.time - status.started)} · ${servers}`);
  host.warnings(overview);
  traffic(overview);
  services.update(overview);
  events.update(eventsAnswer, overview.time);
  hostParts(overview);
  tell();
}

const LINKS = {
  waiting: () => "connecting",
  live: (age) => `live, ${Math.floor(age)} s old`,
  lost: (age) => `not live: ${span(age)} old`,
  paused: (age) => `paused: ${span(age)} old`,
};
const alarm = (error) =>
  `kernlbd does not answer: ${error}. What is shown is old. The kernel goes on forwarding, but nobody watches its servers.`;

function tell() {
  const { state, age, error } = feed.state();
  say(byId("link-text"), LINKS[state](age));
  set(byId("link"), "class", state);
  say(byId("lost"), state === "lost" ? alarm(error) : "");
  document.body.classList.toggle("stale", state === "lost");
}

function remembered() {
  const said = new URLSearchParams(location.hash.slice(1));
  const sort = said.get("sort");
  return { filter: said.get("filter") ?? "", sort: Object.hasOwn(ORDERS, sort ?? "") ? sort : "trouble" };
}

/** In the address, so that it can be handed on and survives a reload. */
function remember() {
  const said = new URLSearchParams();
  if (chosen.filter) said.set("filter", chosen.filter);
  if (chosen.sort !== "trouble") said.set("sort", chosen.sort);
  history.replaceState(null, "", said.size ? `#${said}` : location.pathname + location.search);
}

byId("pause").addEventListener("click", () => {
  feed.pause(!feed.paused);
  set(byId("pause"), "aria-pressed", feed.paused);
  tell();
});
setInterval(tell, TICK);
feed.run();
