// What was read of each service before: asked for once, then kept up to date moment by moment.

const WHOLE = 60; // moments of each service
const LATEST = 4; // enough to go on from where the last answer ended

export const idOf = (service) => `${service.name} ${service.key}`;

export class Histories {
  constructor() {
    this.known = new Map();
    this.whole = true; // ask for everything next
  }

  get query() {
    return `history=${this.whole ? WHOLE : LATEST}`;
  }

  /** Give every service of an answer to `query` the history that is known by now. */
  fill(services) {
    const asked = this.whole;
    const next = new Map();
    this.whole = false;
    for (const service of services) {
      const came = service.history;
      const before = asked ? [] : (this.known.get(idOf(service)) ?? []);
      const last = before.at(-1)?.time ?? 0;
      const fresh = came.filter((moment) => moment.time > last);
      // nothing in common: something was missed between
      if (before.length && fresh.length && fresh.length === came.length) this.whole = true;
      service.history = [...before, ...fresh].slice(-WHOLE);
      next.set(idOf(service), service.history);
    }
    this.known = next;
  }
}
