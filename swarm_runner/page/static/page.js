// Keeps the page up to date: receives what changed as server-sent events.
"use strict";

(() => {
  const main = document.getElementById("main");
  const connection = document.getElementById("connection");
  const titleEnd = document.title.slice(document.title.lastIndexOf(" · "));
  let source = null;
  let lostAt = null;
  let hiddenTimer;

  const clock = (date) => date.toISOString().slice(11, 19) + " UTC";

  const show = (message, link) => {
    connection.textContent = message;
    if (link) {
      const anchor = document.createElement("a");
      anchor.href = window.location.href;
      anchor.textContent = link;
      connection.append(" ", anchor);
    }
    connection.hidden = false;
  };

  // A piece in which somebody types stays as it is.
  const isInUse = (element) => {
    const focused = document.activeElement;
    return element.contains(focused) && /^(INPUT|SELECT)$/.test(focused.tagName);
  };

  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  };

  // Where the keyboard is in a piece: the position among its links and buttons.
  const focusables = (element) => Array.from(element.querySelectorAll("a[href], button"));

  const replacePiece = (before, after) => {
    if (isInUse(before)) {
      return;
    }
    const position = focusables(before).indexOf(document.activeElement);
    before.replaceWith(after);
    if (position >= 0) {
      const target = focusables(after)[position];
      if (target) {
        target.focus({ preventScroll: true });
      }
    }
  };

  const applyPieces = (pieces) => {
    for (const [name, html] of Object.entries(pieces)) {
      const before = document.getElementById(name);
      if (before) {
        replacePiece(before, parse(html).firstElementChild);
      }
    }
  };

  const applyMain = (html) => {
    const content = parse(html);
    const names = (root) => Array.from(root.querySelectorAll(".piece"), (piece) => piece.id);
    if (names(content).join() === names(main).join()) {
      for (const after of Array.from(content.querySelectorAll(".piece"))) {
        const before = document.getElementById(after.id);
        if (before && before.outerHTML !== after.outerHTML) {
          replacePiece(before, after);
        }
      }
    } else if (!isInUse(main)) {
      main.replaceChildren(content);
    }
  };

  const received = () => {
    lostAt = null;
    connection.hidden = true;
  };

  const lost = () => {
    lostAt = lostAt || new Date();
    show("No updates since " + clock(lostAt) + ": the daemon does not answer. Trying again.");
    if (source.readyState !== EventSource.CLOSED) {
      return;
    }
    // It answered, but not with a stream; or the browser has given up.
    source = null;
    fetch("/events?view=", { cache: "no-store" }).then(
      (answer) => {
        if (answer.status === 401) {
          show("You are not logged in any more. What was last known is shown.", "Log in again");
          return;
        }
        show("No updates since " + clock(lostAt) + ": too many browsers are watching.", "Reload");
        window.setTimeout(connect, 60000);
      },
      () => window.setTimeout(connect, 5000),
    );
  };

  const connect = () => {
    if (source !== null || document.hidden) {
      return;
    }
    source = new EventSource("/events?view=" + encodeURIComponent(main.dataset.view));
    source.addEventListener("main", (event) => {
      received();
      const data = JSON.parse(event.data);
      document.title = data.title + titleEnd;
      applyMain(data.main);
    });
    source.addEventListener("pieces", (event) => {
      received();
      applyPieces(JSON.parse(event.data));
    });
    source.onerror = lost;
  };

  // A page that nobody sees leaves its stream to others after a minute.
  document.addEventListener("visibilitychange", () => {
    window.clearTimeout(hiddenTimer);
    if (!document.hidden) {
      connect();
      return;
    }
    hiddenTimer = window.setTimeout(() => {
      if (source !== null) {
        source.close();
        source = null;
      }
    }, 60000);
  });

  // The output of one's own job: each stream is followed while its part is open.
  const follow = (details, url) => {
    const output = details.querySelector("pre");
    let stream = null;
    const stop = () => {
      if (stream !== null) {
        stream.close();
        stream = null;
      }
    };
    const start = () => {
      stop();
      if (!details.open) {
        return;
      }
      output.textContent = "";
      stream = new EventSource(url + "?stream=" + details.dataset.stream);
      stream.addEventListener("output", (event) => {
        const atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
        output.append(JSON.parse(event.data));
        if (atEnd) {
          output.scrollTop = output.scrollHeight;
        }
      });
      stream.addEventListener("end", stop);
      // Without its position, a stream that breaks cannot go on: it is read again when opened.
      stream.onerror = stop;
    };
    details.addEventListener("toggle", start);
    start();
  };
  const outputs = document.querySelector(".outputs");
  if (outputs !== null) {
    outputs.querySelectorAll("details").forEach((details) => follow(details, outputs.dataset.url));
  }

  connect();
})();
