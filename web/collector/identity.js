// Who the visitor is, as far as the page said so. The anonymous id is not here: it is the server's
// HttpOnly cookie. Traits stay in memory, for they may hold what has no place in localStorage.

const STORAGE_KEY = "_df_ids";
export let ids = {};
let traits = {};

// localStorage throws where it is blocked, full or sandboxed; memory is enough until the next page.
function store(value) {
  ids = value;
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(ids));
  } catch (error) {}
}

// Anybody can write there: all but the two texts is left.
export function loadIds() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORAGE_KEY));
    for (const kind of ["userId", "groupId"]) if (typeof stored[kind] == "string") ids[kind] = stored[kind];
  } catch (error) {}
}

// `kind` is userId or groupId. Gives the traits so far, the new ones winning; another id starts anew.
// An object is no id: as text it would be the same for everybody.
export function remember(kind, id, given) {
  if (id && typeof id != "object" && ids[kind] !== "" + id) {
    traits[kind] = {};
    store({ ...ids, [kind]: "" + id });
  }
  return (traits[kind] = { ...traits[kind], ...given });
}

export function forget() {
  traits = {};
  store({});
}
