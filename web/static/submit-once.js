// A double click on a form's button sends the form once: the second one would make a second pipeline.

const AGAIN_AFTER_MS = 3000;
const sent = new WeakSet();

addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (event.submitter?.formTarget === "_blank") return; // its answer is in another tab: it may be asked again
  if (sent.has(form)) event.preventDefault();
  sent.add(form);
  setTimeout(() => sent.delete(form), AGAIN_AFTER_MS);
});
