// Small elements that make plain pages nicer. Without scripts every page still works.

import "./copy-button.js";
import "./depends-on.js";
import "./expression-check.js";
import "./password-field.js";
import "./reload-soon.js";
import "./select-all.js";
import "./shown-once.js";
import "./step-editor.js";
import "./submit-once.js";
