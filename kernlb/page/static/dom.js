// Elements. Text goes in as text, and only what changed is touched: focus and selection stay.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const make = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** Give an element a text of its own. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Give an attribute a value; null takes it away. */
export function set(element, name, value) {
  if (value === null) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

/**
 * Make the children of `parent` those of `items`, in order. A view is {nodes, update}; one that is
 * there already stays, and whatever had the focus keeps it when it moves.
 */
export function sync(parent, items, keyOf, create) {
  const views = (parent.views ??= new Map());
  const wanted = new Map();
  for (const item of items) {
    let key = keyOf(item);
    while (wanted.has(key)) key += "\u0000";
    wanted.set(key, item);
  }
  for (const [key, view] of views) {
    if (!wanted.has(key)) {
      view.nodes.forEach((node) => node.remove());
      views.delete(key);
    }
  }
  const focused = document.activeElement;
  let at = parent.firstChild;
  for (const [key, item] of wanted) {
    let view = views.get(key);
    if (view === undefined) views.set(key, (view = create(item)));
    view.update(item);
    for (const node of view.nodes) {
      if (node === at) at = at.nextSibling;
      else parent.insertBefore(node, at);
    }
  }
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

/**
 * A table: `columns` are {label, numeric, hint, button}. Roles are written out because small
 * screens lay rows out as cards, and a browser forgets what a laid-out table was.
 */
export function table(caption, columns) {
  const heads = columns.map((column) => {
    const head = make("th", { scope: "col", role: "columnheader", class: column.numeric ? "number" : "" });
    head.append(column.button ?? column.label);
    if (column.hint) head.title = column.hint;
    return head;
  });
  const body = make("tbody", { role: "rowgroup" });
  const element = make(
    "table",
    { role: "table" },
    make("caption", {}, caption),
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)),
    body,
  );
  return { element, body, heads, columns };
}

/** A row of a table; the first cell is its heading. Returns the row and its cells. */
export function row(columns) {
  const cells = columns.map((column, index) =>
    make(index ? "td" : "th", {
      role: index ? "cell" : "rowheader",
      "data-label": column.label,
      class: column.numeric ? "number" : "",
    }),
  );
  cells[0].scope = "row";
  return { element: make("tr", { role: "row" }, ...cells), cells };
}

/** Rows whose cells are texts: `textsOf(item)` in the order of the columns. */
export function fillTable(made, items, keyOf, textsOf) {
  sync(made.body, items, keyOf, () => {
    const { element, cells } = row(made.columns);
    return {
      nodes: [element],
      update: (item) => textsOf(item).forEach((text, index) => say(cells[index], text)),
    };
  });
}
