// The table of services: a row each, and its servers in a row below when it is open.

import { byId, make, row, say, set, show, sync, table } from "./dom.js";
import { idOf } from "./histories.js";
import { ORDERS, labels, matches, seesAnswers, terms, trouble } from "./judge.js";
import { line, mark, servers as serverBars } from "./plots.js";
import { serversOf } from "./servers.js";
import * as words from "./words.js";

const PAGE = 50; // services at a time
const FEW = 6; // so many services are open at first

const COLUMNS = [
  { label: "Service", sort: "name" },
  { label: "State", sort: "trouble" },
  { label: "Serving" },
  { label: "Active", sort: "active", numeric: true },
  { label: "Conn/s", sort: "connections", numeric: true },
  { label: "In, bit/s", sort: "in", numeric: true },
  { label: "Out, bit/s", sort: "out", numeric: true },
  { label: "Datapath" },
];
let views = 0;

export class Services {
  /** `changed` is called when the choice of filter and order is another. */
  constructor(chosen, changed) {
    this.chosen = chosen; // {filter, sort}
    this.page = 0;
    this.found = []; // what the filter leaves, in order
    this.opened = new Map(); // by service: what the operator said
    this.overview = null;
    this.shown = [];
    this.changed = changed;
    this.build();
  }

  build() {
    const columns = COLUMNS.map((column) => {
      if (!column.sort) return column;
      const button = make("button", { type: "button" }, column.label);
      button.addEventListener("click", () => this.sort(column.sort));
      return { ...column, button };
    });
    this.table = table("Services, each with its servers below it when open", columns);
    this.table.element.caption.className = "aside";
    byId("services-table").append(this.table.element);
    const orders = Object.entries(ORDERS).map(([name, [label]]) => make("option", { value: name }, label));
    byId("sort").append(...orders);
    byId("sort").addEventListener("change", (event) => this.sort(event.target.value));
    byId("filter").value = this.chosen.filter;
    byId("filter").addEventListener("input", (event) => this.filter(event.target.value));
    byId("open-all").addEventListener("click", () => this.openAll(true));
    byId("close-all").addEventListener("click", () => this.openAll(false));
    byId("before").addEventListener("click", () => this.turn(-1));
    byId("after").addEventListener("click", () => this.turn(1));
    this.table.body.addEventListener("keydown", (event) => this.walk(event));
  }

  sort(name) {
    this.chosen.sort = name;
    this.page = 0;
    this.changed();
  }

  filter(text) {
    this.chosen.filter = text;
    this.page = 0;
    this.changed();
  }

  turn(by) {
    this.page += by;
    this.draw();
  }

  openAll(open) {
    for (const service of this.shown) this.opened.set(idOf(service), open);
    this.draw();
  }

  /** Up and down, Home and End walk from service to service. */
  walk(event) {
    const buttons = [...this.table.body.querySelectorAll("button.toggle")];
    const at = buttons.indexOf(event.target);
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 };
    if (at < 0 || !(event.key in steps)) return;
    event.preventDefault();
    buttons[Math.min(Math.max(steps[event.key], 0), buttons.length - 1)].focus();
  }

  isOpen(service) {
    return this.opened.get(idOf(service)) ?? this.overview.services.length <= FEW;
  }

  update(overview) {
    this.overview = overview;
    this.render();
  }

  render() {
    if (this.overview === null) return;
    const { services } = this.overview;
    const filter = terms(this.chosen.filter);
    this.found = services.filter((service) => matches(service, filter)).sort(ORDERS[this.chosen.sort][1]);
    const serving = services.filter((service) => service.serving > 0).length;
    say(byId("services-count"), services.length ? `${words.whole(serving)} of ${words.whole(services.length)} serving` : "none");
    const nothing = services.length ? "no service has that" : "no services";
    const some = filter.length ? `${words.plural(this.found.length, "service")} found` : "";
    say(byId("filter-said"), this.found.length ? some : nothing);
    byId("sort").value = this.chosen.sort;
    this.table.columns.forEach((column, index) => {
      if (!column.sort) return;
      const order = this.chosen.sort === column.sort ? (column.sort === "name" ? "ascending" : "descending") : null;
      set(this.table.heads[index], "aria-sort", order);
    });
    this.draw();
  }

  /** One page of what was found. */
  draw() {
    const { found } = this;
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const first = this.page * PAGE;
    this.shown = found.slice(first, first + PAGE);
    sync(this.table.body, this.shown, idOf, () => this.serviceRows());
    show(byId("pager"), pages > 1);
    say(byId("range"), `${words.whole(first + 1)}\u2013${words.whole(first + this.shown.length)} of ${words.whole(found.length)}`);
    // a button that goes away under the finger would take the focus with it
    set(byId("before"), "aria-disabled", this.page === 0);
    set(byId("after"), "aria-disabled", this.page === pages - 1);
    show(this.table.element, found.length > 0);
  }

  serviceRows() {
    const id = `servers-${(views += 1)}`;
    const { element, cells } = row(COLUMNS);
    const [name, state, serving, active, rate, inward, outward, by] = cells;
    const label = make("span");
    const button = make("button", { type: "button", class: "toggle", "aria-controls": id }, label);
    const key = make("span", { class: "sub address" });
    name.append(button, key);
    const sign = mark();
    const word = make("span", { class: "word" });
    const why = make("span", { class: "why" });
    state.append(make("span", { class: "status" }, sign.element, word), why);
    const tally = make("span", { class: "tally" });
    const bars = serverBars();
    serving.append(tally, bars.element);
    const plots = [rate, inward, outward].map((cell) => {
      const figure = make("span", { class: "figure" });
      const plot = line();
      cell.append(make("span", { class: "measured" }, plot.element, figure));
      return (value, history, words) => {
        say(figure, value);
        plot.update(history, words);
      };
    });
    const datapath = make("span");
    const scheduler = make("span", { class: "sub" });
    by.append(datapath, scheduler);
    const cell = make("td", { colspan: COLUMNS.length, role: "cell", class: "inside" });
    const below = make("tr", { id, role: "row", class: "below" }, cell);
    let servers = null;
    let current = null;
    button.addEventListener("click", () => {
      this.opened.set(idOf(current), !this.isOpen(current));
      this.draw();
    });

    const update = (service) => {
      current = service;
      const { overview } = this;
      say(label, service.name || service.key);
      say(key, [service.key, labels(service)].filter(Boolean).join(" · "));
      sign.update(service.kind);
      say(word, service.word);
      const open = this.isOpen(service);
      say(why, trouble(service));
      show(why, why.textContent !== "" && !open);
      say(tally, `${service.serving} of ${service.servers.length}`);
      bars.update(service.kinds);
      say(active, words.whole(service.active));
      const said = (what) => `${what} over the last ${words.span(lasting(service.history))}`;
      plots[0](words.rate(service.rates.connections), service.history.map((each) => each.connections), said("connections a second"));
      plots[1](words.bits(service.rates.bytes_in), service.history.map((each) => each.bytes_in), said("traffic in"));
      const out = service.servers.some(seesAnswers) ? words.bits(service.rates.bytes_out) : "\u2013";
      plots[2](out, out === "\u2013" ? [] : service.history.map((each) => each.bytes_out), said("traffic out"));
      say(datapath, service.datapath);
      say(scheduler, service.scheduler);
      set(button, "aria-expanded", open);
      element.classList.toggle("open", open);
      show(below, open);
      if (open) {
        if (servers === null) cell.append((servers = serversOf()).element);
        servers.update(service, overview);
      } else if (servers !== null) {
        servers.element.remove();
        servers = null;
      }
    };
    return { nodes: [element, below], update };
  }
}

export const lasting = (history) => (history.length > 1 ? history.at(-1).time - history[0].time : 0);
