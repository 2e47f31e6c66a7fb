// One of the SDKs for Node, used as its documentation says:
//     node node.mjs segment '{"key": "dk_…", "url": "http://127.0.0.1:8084"}' < calls.json
// calls.json is [[method, message], …]. Prints, as JSON, the errors that the SDK gave its caller.
import { readFileSync } from "node:fs";

const CLIENTS = {
    async segment(key, url, options) {
        const { Analytics } = await import("@segment/analytics-node");
        return new Analytics({ writeKey: key, host: url, ...options });
    },
    async rudder(key, url, options) {
        const { default: Analytics } = await import("@rudderstack/rudder-sdk-node");
        return new Analytics(key, { dataPlaneUrl: url, ...options });
    },
    async legacy(key, url, options) {
        const { default: Analytics } = await import("analytics-node");
        return new Analytics(key, { host: url, ...options });
    },
};

const [name, given] = process.argv.slice(2);
const { key, url, options } = JSON.parse(given);
const client = await CLIENTS[name](key, url, options);
const errors = [];
const told = (error) => error && errors.push(String((error.reason ?? error).message));
client.on?.("error", told);
process.on("unhandledRejection", told);

const sent = JSON.parse(readFileSync(0, "utf8")).map(([method, message]) => {
    const timestamp = message.timestamp && { timestamp: new Date(message.timestamp) };
    return new Promise((done) => client[method]({ ...message, ...timestamp }, (error) => done(told(error))));
});
if (client.closeAndFlush) await client.closeAndFlush();
else client.flush();
await Promise.all(sent);
console.log(JSON.stringify(errors));
process.exit();
