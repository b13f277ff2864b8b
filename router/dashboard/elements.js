// Elements of the page. Text is always set as text, never as markup.

export const byId = (id) => document.getElementById(id);

// usage: element("p", {class: "soft"}, "text", child)
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// Writes only what is new, so that a selection in the text and a screen reader's place in it stay.
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function setAttribute(target, name, value) {
  if (value === null || value === undefined || value === false) target.removeAttribute(name);
  else if (target.getAttribute(name) !== String(value)) target.setAttribute(name, value);
}

export function setHidden(target, hidden) {
  if (target.hidden !== hidden) target.hidden = hidden;
}

// The children of one element, one for each key: made once, kept, and moved only where their order has changed.
export class Keyed {
  constructor(parent, make, refuge = parent) {
    this.parent = parent;
    this.make = make;
    this.refuge = refuge; // gets the focus when the child that had it goes
    this.children = new Map();
  }

  // entries: [key, value]...; each child has an `update(value)`
  show(entries) {
    const wanted = new Set(entries.map(([key]) => key));
    for (const [key, child] of this.children) {
      if (wanted.has(key)) continue;
      const focused = child.root.contains(document.activeElement);
      child.root.remove();
      this.children.delete(key);
      if (focused) this.refuge.focus();
    }
    let place = this.parent.firstElementChild;
    for (const [key, value] of entries) {
      let child = this.children.get(key);
      if (!child) this.children.set(key, (child = this.make(key)));
      child.update(value);
      if (child.root === place) place = place.nextElementSibling;
      else this.parent.insertBefore(child.root, place);
    }
  }
}
