"""Names that a collector's global variable must not have."""

_RESERVED = """
arguments async await break case catch class const continue debugger default delete do else enum eval
export extends false finally for function get if implements import in instanceof interface let new null
of package private protected public return set static super switch this throw true try typeof undefined
var void while with yield Infinity NaN
"""

_TAKEN = """
__proto__ constructor prototype hasOwnProperty isPrototypeOf propertyIsEnumerable toLocaleString toString
valueOf __defineGetter__ __defineSetter__ __lookupGetter__ __lookupSetter__
window self globalThis document location navigator history screen top parent frames opener name status
closed length origin event external performance crypto caches indexedDB localStorage sessionStorage
cookieStore customElements visualViewport console chrome trustedTypes scheduler navigation
alert confirm prompt print open close stop focus blur find fetch postMessage setTimeout setInterval
clearTimeout clearInterval queueMicrotask requestAnimationFrame cancelAnimationFrame requestIdleCallback
cancelIdleCallback structuredClone atob btoa matchMedia getComputedStyle getSelection scroll scrollTo
scrollBy moveTo moveBy resizeTo resizeBy addEventListener removeEventListener dispatchEvent
createImageBitmap reportError isSecureContext crossOriginIsolated
Object Function Array Boolean Symbol Number BigInt Math Date String RegExp Map Set WeakMap WeakSet WeakRef
Promise Proxy Reflect JSON Intl Error TypeError RangeError SyntaxError ReferenceError URIError EvalError
AggregateError ArrayBuffer SharedArrayBuffer DataView Atomics Uint8Array Int8Array Uint16Array Int16Array
Uint32Array Int32Array Float32Array Float64Array Uint8ClampedArray WebAssembly Iterator
parseInt parseFloat isNaN isFinite encodeURI encodeURIComponent decodeURI decodeURIComponent escape
unescape Window Document Node Element Event EventTarget XMLHttpRequest WebSocket Worker Blob File FileReader
FormData Headers Request Response URL URLSearchParams Image Audio Option Notification AbortController
TextEncoder TextDecoder MutationObserver IntersectionObserver ResizeObserver PerformanceObserver HTMLElement
"""

RESERVED_WORDS = frozenset(_RESERVED.split())
"""Of ECMAScript in strict mode, and what has a fixed meaning beside them."""

TAKEN_GLOBALS = frozenset(_TAKEN.split())
"""The browser's own that pages use, and what every object inherits."""
