// The page that the visitor looks at. In a single-page application the referrer is the previous URL.

let view;

// All events of one view share this object until they are sent. Most frameworks set the title after
// pushState, so it is read again whenever an event is made or sent, and once more before the next view.
export function currentView() {
  const url = location.href;
  const title = document.title;
  if (view) view.title = title;
  if (!view || view.url != url) {
    view = {
      url,
      title,
      referrer: view ? view.url : document.referrer,
      path: location.pathname,
      search: location.search,
    };
  }
  return view;
}
