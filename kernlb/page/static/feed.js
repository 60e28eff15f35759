// Asks the daemon, again and again, and knows how old what it said is.
//
// A reading every interval, and at once when something happened: the wait between two readings is a
// request for the next event, which the daemon answers when there is one.

const FIRST_INTERVAL = 2; // seconds, until the daemon has said its own
const LONGEST = 30;
const PATIENCE = 10; // seconds for one answer
const RETRY = 1.5; // seconds after a failure
const SPACING = 0.5; // seconds between two readings, at least
const SHARE = 3; // and this many times what the last one took

const OVERDUE = "the next reading is overdue";

const seconds = () => performance.now() / 1000;

export class Feed {
  /**
   * `queries.overview()` and `queries.events(more)` say what to ask for, `answered(overview, events)`
   * is called with what came.
   */
  constructor(queries, answered) {
    this.queries = queries;
    this.answered = answered;
    this.paused = false;
    this.error = "";
    this.interval = FIRST_INTERVAL;
    this.heard = null; // when the last answer came
    this.watching = seconds(); // since when this page is looked at
    this.wake = () => {};
    document.addEventListener("visibilitychange", () => this.again());
  }

  /** Ask at once. */
  again() {
    this.watching = seconds();
    this.wake();
  }

  pause(paused) {
    this.paused = paused;
    this.again();
  }

  get resting() {
    return this.paused || document.hidden;
  }

  async run() {
    for (;;) {
      if (this.resting) {
        await this.rest(LONGEST);
        continue;
      }
      const started = seconds();
      await this.ask();
      const spacing = Math.max(SPACING, (seconds() - started) * SHARE);
      const interval = Math.min(Math.max(this.interval, spacing), LONGEST);
      if (this.error) await this.rest(RETRY);
      else {
        await this.rest(spacing);
        if (!this.resting) await this.rest(interval - spacing, (signal) => this.news(interval, signal));
      }
    }
  }

  /** Until so many seconds have passed, somebody wakes it, or `sooner(signal)` ends. */
  async rest(wait, sooner) {
    if (wait <= 0) return;
    const over = new AbortController();
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait * 1000);
      over.signal.addEventListener("abort", () => clearTimeout(timer));
      this.wake = resolve;
      sooner?.(over.signal).then(resolve, resolve);
    });
    over.abort();
  }

  /** Ends when something happened, or nobody answers. */
  async news(interval, signal) {
    const query = `${this.queries.events("")}&limit=1&wait=${interval}`;
    const answer = await get(`v1/events?${query}`, [signal]);
    if (!answer.events.length) await new Promise(() => {});
  }

  async ask() {
    try {
      const overview = await get(`v1/overview?${this.queries.overview()}`);
      const events = await get(`v1/events?${this.queries.events("&limit=500")}`);
      if (this.paused) return;
      this.heard = seconds();
      this.interval = overview.interval;
      this.error = "";
      this.answered(overview, events);
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      this.error = error.message;
    }
  }

  /** {state: waiting, live, lost or paused, age: seconds, error} */
  state() {
    const now = seconds();
    const age = now - (this.heard ?? this.watching);
    if (this.paused) return { state: "paused", age, error: "" };
    if (this.error) return { state: "lost", age, error: this.error };
    const patience = 2 * this.interval + 3;
    if (Math.min(age, now - this.watching) > patience) return { state: "lost", age, error: OVERDUE };
    return { state: this.heard === null ? "waiting" : "live", age, error: "" };
  }
}

class Unanswered extends Error {}

async function get(path, signals = []) {
  const patience = AbortSignal.timeout(PATIENCE * 1000);
  const signal = signals.length ? AbortSignal.any(signals) : patience;
  try {
    const response = await fetch(path, { cache: "no-store", credentials: "same-origin", signal });
    if (response.ok) return await response.json();
    const problem = await response.json().catch(() => ({}));
    throw new Unanswered(`HTTP ${response.status}${problem.title ? `: ${problem.title}` : ""}`);
  } catch (error) {
    if (error instanceof Unanswered) throw error;
    throw new Unanswered(error.name === "TimeoutError" ? `no answer within ${PATIENCE} s` : "no connection");
  }
}
