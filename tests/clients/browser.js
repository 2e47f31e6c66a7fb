// In the page: the SDKs for browsers, used as their documentation says.
const CLIENTS = {
    segment: (key, url, options) =>
        AnalyticsNext.AnalyticsBrowser.load({ writeKey: key, cdnURL: url }, options),
    rudder(key, url, options) {
        const client = new rudderanalytics.RudderAnalytics();
        client.load(key, url, { ...options, getSourceConfig: () => sourceConfig(key) });
        return client;
    },
};

// RudderStack's settings document, which its own cloud would serve.
const sourceConfig = (key) => ({
    updatedAt: "2026-01-01T00:00:00.000Z",
    source: {
        id: "source-1",
        name: "Shop",
        writeKey: key,
        enabled: true,
        workspaceId: "workspace-1",
        destinations: [],
        connections: [],
        dataplanes: {},
        config: { statsCollection: { errors: { enabled: false }, metrics: { enabled: false } } },
    },
});

function speak(name, key, url, options) {
    const client = CLIENTS[name](key, url, options);
    client.identify("usr-701", { email: "nadia@example.net", seats: 4 });
    client.page("docs", "Install", { section: "intro" });
    client.track("Ordered ☕", { "городок": "Ærøskøbing", items: [{ id: "sku-1" }], price: 19.5 });
    client.group("grp-9", { name: "Northwind" });
    client.screen?.("Home", { tab: 1 });
    client.alias("usr-702", "usr-701");
}
