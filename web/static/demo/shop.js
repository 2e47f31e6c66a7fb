// The demo shop: what a customer's own page would do, with the collector's calls beside it.

const currency = document.body.dataset.currency;
const details = [...document.querySelectorAll("article.detail")];
const list = document.querySelector("#list");
const cart = new Map(JSON.parse(sessionStorage.getItem("cart") ?? "[]"));
const money = new Intl.NumberFormat("en-US", { style: "currency", currency });

const find = (selector) => document.querySelector(selector);

// Properties are named as in the documentation's own "Product Added".
function productOf(slug) {
  const { productId, name, category, price } = find(`article[data-slug="${slug}"]`).dataset;
  return { product_id: productId, name, category, price: Number(price), currency };
}

function lines() {
  return [...cart].map(([slug, quantity]) => {
    const { currency: _, ...product } = productOf(slug);
    return { ...product, quantity };
  });
}

function total() {
  const sum = lines().reduce((sum, line) => sum + line.price * line.quantity, 0);
  return Math.round(sum * 100) / 100;
}

function say(text) {
  find("#said").textContent = text;
}

// ── Pages ──

function slugOf(path) {
  return path.split("/")[3] ?? "";
}

function show(path, isNavigation) {
  const slug = slugOf(path);
  const shown = details.find((one) => one.dataset.slug === slug);
  list.hidden = Boolean(shown);
  for (const one of details) one.hidden = one !== shown;
  document.title = shown ? `${shown.dataset.name} · Quarter Note` : "Quarter Note";
  if (isNavigation) {
    scrollTo(0, 0);
    shown?.querySelector("h1").focus();
  }
  if (shown) _df.track("Product Viewed", productOf(slug));
  else _df.track("Product List Viewed", { list_id: "all", category: "All products" });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="/demo/shop"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  if (link.pathname === location.pathname) return;
  say("");
  history.pushState(null, "", link.pathname);
  show(link.pathname, true);
});
addEventListener("popstate", () => show(location.pathname, true));

// ── Cart ──

function change(slug, quantity) {
  const left = (cart.get(slug) ?? 0) + quantity;
  if (left > 0) cart.set(slug, left);
  else cart.delete(slug);
  drawCart();
}

function drawCart() {
  sessionStorage.setItem("cart", JSON.stringify([...cart]));
  const all = lines();
  find("#cart-lines").replaceChildren(...[...cart.keys()].map((slug, index) => cartLine(slug, all[index])));
  find("#cart-count").textContent = all.reduce((sum, line) => sum + line.quantity, 0);
  find("#cart-empty").hidden = all.length > 0;
  find("#cart-total").hidden = find("#check-out").hidden = all.length === 0;
  find("#cart-total strong").textContent = money.format(total());
}

function cartLine(slug, { name, price, quantity }) {
  const line = document.createElement("li");
  const words = document.createElement("span");
  words.textContent = quantity > 1 ? `${name} × ${quantity}` : name;
  const sum = document.createElement("span");
  sum.textContent = money.format(price * quantity);
  const remove = document.createElement("button");
  remove.type = "button";
  remove.className = "plain";
  remove.textContent = "Remove";
  remove.setAttribute("aria-label", `Remove ${name}`);
  remove.addEventListener("click", () => {
    _df.track("Product Removed", { ...productOf(slug), quantity });
    change(slug, -quantity);
    say(`${name} is out of your cart.`);
  });
  line.append(words, sum, remove);
  return line;
}

for (const one of details) {
  one.querySelector("button.add").addEventListener("click", () => {
    _df.track("Product Added", { ...productOf(one.dataset.slug), quantity: 1 });
    change(one.dataset.slug, 1);
    say(`${one.dataset.name} is in your cart.`);
  });
}

// ── Dialogs ──

function dialog(selector, onSubmit) {
  const element = find(selector);
  element.querySelector(".cancel").addEventListener("click", () => element.close());
  element.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    element.close();
    onSubmit(Object.fromEntries(new FormData(event.target)));
  });
  return element;
}

const newId = () => Math.random().toString(36).slice(2, 8).toUpperCase();
let orderId;

const checkOut = dialog("#order-dialog", () => {
  const products = lines();
  _df.track("Order Completed", { order_id: orderId, revenue: total(), total: total(), currency, products });
  say(`Thank you. Your order ${orderId} is on its way.`);
  cart.clear();
  drawCart();
});

find("#check-out").addEventListener("click", () => {
  orderId = `O-${newId()}`;
  find("#order-sum").textContent = money.format(total());
  _df.track("Checkout Started", { order_id: orderId, revenue: total(), currency, products: lines() });
  checkOut.showModal();
});

const slugged = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");

const signIn = dialog("#sign-in-dialog", ({ name, email }) => {
  _df.identify(`user_${slugged(email)}`, { name, email, plan: "premium" });
  sessionStorage.setItem("name", name);
  drawAccount();
  say(`Welcome, ${name}.`);
});

const joinCompany = dialog("#company-dialog", ({ company }) => {
  _df.group(`org_${slugged(company)}`, { name: company, industry: "Technology", employees: 250, plan: "enterprise" });
  say(`You shop for ${company} now.`);
});

find("#sign-in").addEventListener("click", () => signIn.showModal());
find("#join-company").addEventListener("click", () => joinCompany.showModal());
find("#sign-out").addEventListener("click", () => {
  const name = sessionStorage.getItem("name");
  sessionStorage.removeItem("name");
  _df.track("Signed Out");
  _df.reset();
  drawAccount();
  say(`Good-bye, ${name}.`);
});

function drawAccount() {
  const isIn = Boolean(sessionStorage.getItem("name"));
  find("#sign-in").hidden = isIn;
  find("#sign-out").hidden = find("#join-company").hidden = !isIn;
}

drawAccount();
drawCart();
show(location.pathname, false);
