// What changed, newest first.

import { byId, make, row, say, set, show, sync, table } from "./dom.js";
import { eventMatches, terms } from "./judge.js";
import { exact, moment, plural } from "./words.js";

const KEPT = 500;
const STEP = 20;
const COLUMNS = [{ label: "Time" }, { label: "What" }, { label: "By" }];

export class EventList {
  constructor(chosen) {
    this.chosen = chosen;
    this.events = []; // newest first
    this.latest = null; // number of the latest event known
    this.bound = STEP;
    this.now = 0;
    this.table = table("Events, newest first", COLUMNS);
    this.table.element.caption.className = "aside";
    byId("events-table").append(this.table.element);
    byId("events-more").addEventListener("click", () => {
      this.bound += STEP;
      this.render();
    });
  }

  /** What to ask for: events after the latest one known, at first the latest. */
  get query() {
    return this.latest === null ? "" : `since=${this.latest}`;
  }

  /** `answer` is what /v1/events gave to `query`. */
  update(answer, now) {
    this.now = now;
    if (answer.latest < this.latest) {
      this.events = []; // numbers began anew: ask for all of them
      this.latest = null;
    } else {
      this.events = [...answer.events.toReversed(), ...this.events].slice(0, KEPT);
      this.latest = answer.events.at(-1)?.number ?? answer.latest;
    }
    this.render();
  }

  render() {
    const filter = terms(this.chosen.filter);
    const found = this.events.filter((event) => eventMatches(event, filter));
    say(byId("events-count"), this.events.length ? (filter.length ? plural(found.length, "match", "matches") : `latest ${this.events.length}`) : "none yet");
    show(byId("events-more"), found.length > this.bound);
    show(this.table.element, found.length > 0);
    sync(this.table.body, found.slice(0, this.bound), (event) => event.number, (event) => this.eventRow(event));
  }

  eventRow(event) {
    const { element, cells } = row(COLUMNS);
    const time = make("time", { datetime: exact(event.time) });
    cells[0].append(time);
    say(cells[1], event.text);
    say(cells[2], event.cause || "\u2013");
    set(time, "title", exact(event.time));
    return { nodes: [element], update: () => say(time, moment(event.time, this.now)) };
  }
}
