
"use strict";
// The page asks for itself every two seconds, and takes over what has changed. What has not changed is left alone, so
// that focus, selection and scroll position stay where they are.
(() => {
  const EVERY = 2000, PATIENCE = 8000;
  const lost = document.getElementById("lost");
  let answered = new Date();

  const keyOf = (node) => (node.nodeType === 1 && (node.getAttribute("data-key") || node.id)) || null;

  function alike(a, b) {
    return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
  }

  function takeOver(old, fresh) {
    if (old.nodeType !== 1) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    takeOverChildren(old, fresh);
  }

  function takeOverChildren(old, fresh) {
    const known = new Map();
    for (const child of old.childNodes) if (keyOf(child)) known.set(keyOf(child), child);
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const match = keyOf(child) ? known.get(keyOf(child)) : place;
      if (match && alike(match, child)) {
        if (match === place) place = place.nextSibling;
        else old.insertBefore(match, place);
        takeOver(match, child);
      } else {
        old.insertBefore(document.importNode(child, true), place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  function say(text) {
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = !text;
    document.body.classList.toggle("is-lost", Boolean(text));
  }

  async function refresh() {
    const response = await fetch(location.pathname + location.search, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(response.status);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const selector of [".top", "#main", "footer"]) {
      takeOver(document.querySelector(selector), fresh.querySelector(selector));
    }
    if (document.title !== fresh.title) document.title = fresh.title;
    answered = new Date();
    say("");
  }

  async function again() {
    if (!document.hidden) {
      try {
        await refresh();
      } catch (error) {
        say(`The relay does not answer since ${answered.toLocaleTimeString()}. What is shown is from then.`);
      }
    }
    setTimeout(again, EVERY);
  }

  setTimeout(again, EVERY);
})();
