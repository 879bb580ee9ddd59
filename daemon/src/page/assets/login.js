// An address such as /login#TOKEN logs in by itself. What stands behind the # never leaves the
// browser, so that the token is in no request line and in no log; it is taken out of the address bar
// and the history at once.
"use strict";

function logIn() {
  const token = location.hash.slice(1);
  if (!/^[A-Za-z0-9_-]+$/.test(token)) return;
  history.replaceState(null, "", "/login");
  const field = document.getElementById("token");
  field.value = token;
  field.form.submit();
}

// Typed behind the address of this page when it is open already, it loads nothing.
addEventListener("hashchange", logIn);
logIn();
