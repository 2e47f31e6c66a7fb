// What a page can call.

import { record } from "./events.js";
import { forget, remember } from "./identity.js";
import { flush } from "./transport.js";

export function page(name, properties) {
  record("page", { name, properties });
}

export const methods = {
  track(event, properties) {
    record("track", { event, properties });
  },
  page,
  identify(userId, traits) {
    record("identify", { traits: remember("userId", userId, traits) });
  },
  group(groupId, traits) {
    record("group", { traits: remember("groupId", groupId, traits) });
  },
  reset: forget,
  flush,
};
