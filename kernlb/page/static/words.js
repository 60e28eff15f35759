// Numbers and times as text. Pure.

const SCALES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const UNITS = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
const MINUS = "\u2013";

/** 999, 12.3k, 4.56M: three digits, factors of 1000; rates below ten keep a decimal. */
export function count(number) {
  for (const [scale, suffix] of SCALES) {
    if (number >= scale * 0.9995) {
      const scaled = number / scale;
      return scaled.toFixed(scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0) + suffix;
    }
  }
  return number.toFixed(0);
}

/** A rate: as count, but 0.4 is not nothing. */
export function rate(number) {
  if (number > 0 && number < 0.05) return "<0.1";
  return number < 9.95 && number > 0 ? number.toFixed(1) : count(number);
}

export const bits = (bytes) => rate(bytes * 8);

/** 45s, 3m, 2h 5m, 4d 3h. */
export function span(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [size, unit] of UNITS) {
    if (left >= size) {
      parts.push(Math.floor(left / size) + unit);
      left %= size;
    }
  }
  return parts.slice(0, 2).join(" ") || "0s";
}

/** 0.4 ms, 12 ms, 1.2 s. */
export function took(seconds) {
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  const milli = seconds * 1000;
  return `${milli < 10 ? milli.toFixed(1) : milli.toFixed(0)} ms`;
}

export const share = (part) => (part === undefined || part === null ? MINUS : (part * 100).toFixed(1));

export const percent = (part) => `${(part * 100).toFixed(part > 0 && part < 0.0995 ? 1 : 0)} %`;

export function mebibytes(bytes) {
  const amount = bytes / 2 ** 20;
  return `${amount.toFixed(amount < 9.95 ? 1 : 0)} MiB`;
}

export const plural = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;

/** 1 234 567, with thin spaces. */
export const whole = (number) => String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, "\u202f");

const two = (number) => String(number).padStart(2, "0");

/** 14:03:09; with the date where it was another day than `now`. Both in seconds. */
export function moment(time, now) {
  const at = new Date(time * 1000);
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  const today = new Date(now * 1000).toDateString() === at.toDateString();
  return today ? clock : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}

export const exact = (time) => new Date(time * 1000).toISOString();
