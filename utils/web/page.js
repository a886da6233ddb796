"use strict";
// Every text from the server is put into the page as text, never as HTML.
(() => {
const PAUSE_MS = 80; // between two looks: about twelve images a second, however fast they come
const RETRY_MS = 1500;
const STALE_SECONDS = 5;
const $ = (selector, inside = document) => inside.querySelector(selector);
const cards = new Map();
const sleep = ms => new Promise(done => setTimeout(done, ms));
let paused = false;

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function say(text, isBad = false) {
  setText($("#status"), text);
  $("#status").classList.toggle("bad", isBad);
}

function card(place) {
  if (!cards.has(place)) {
    const article = $("#card").content.firstElementChild.cloneNode(true);
    article.dataset.position = place;
    $("#sources").append(article);
    cards.set(place, {article, frames: 0, url: ""});
  }
  return cards.get(place);
}

function seconds(value) {
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
}

function place(source) {
  const parts = [];
  if (source.file && source.file[1] > 1) parts.push(`file ${source.file[0]} of ${source.file[1]}`);
  if (source.is_video) parts.push(`frame ${source.frame}${source.frame_count ? ` of ${source.frame_count}` : ""}`);
  return parts.join(", ");
}

function rows(source) {
  // By name: the rows keep their places while the counts change.
  const names = Object.keys(source.totals).sort((a, b) => a.localeCompare(b));
  return names.map(name => [name, source.counts[name] || 0, source.totals[name]]);
}

function trouble(source, hasEnded) {
  if (source.gave_up) return "given up: it sent nothing for too long";
  if (!hasEnded && source.age !== null && source.age > STALE_SECONDS) return `no new frame for ${Math.round(source.age)} s`;
  return source.outages ? `${source.outages} ${source.outages === 1 ? "outage" : "outages"} so far` : "";
}

function show(source, hasEnded) {
  const {article} = card(source.position);
  const fact = (name, text) => {
    const element = $(`.${name}`, article);
    setText(element, text);
    if (element.parentNode.parentNode.className === "facts") element.parentNode.hidden = text === "";
  };
  fact("name", source.source);
  fact("where", place(source));
  fact("rate", source.rate.toFixed(1));
  fact("lag", source.lag === null ? "" : seconds(source.lag));
  fact("frames", String(source.frames));
  fact("detections", String(source.detections));
  fact("dropped", source.dropped === undefined ? "" : String(source.dropped));
  const problem = trouble(source, hasEnded);
  setText($(".trouble", article), problem);
  $(".trouble", article).hidden = !problem;
  const body = $("tbody", article);
  const wanted = rows(source);
  $("table", article).hidden = !wanted.length;
  while (body.rows.length > wanted.length) body.deleteRow(-1);
  wanted.forEach((texts, number) => {
    const row = body.rows[number] || body.insertRow();
    texts.forEach((text, column) => setText(row.cells[column] || row.insertCell(), String(text)));
    row.className = texts[1] ? "" : "gone";
  });
}

async function showImage(source) {
  const mine = card(source.position);
  if (source.frames === mine.frames) return;
  const answer = await fetch(`frame/${source.position}`);
  if (!answer.ok) return;
  const image = $("img", mine.article), before = mine.url;
  mine.url = URL.createObjectURL(await answer.blob());
  mine.frames = source.frames;
  image.src = mine.url;
  image.alt = `The newest frame of ${source.source}, with boxes around what was found`;
  image.hidden = false;
  $(".waiting", mine.article).hidden = true;
  await image.decode().catch(() => {}); // the one before stays visible until then
  image.dataset.frame = answer.headers.get("X-Frame");
  if (before) URL.revokeObjectURL(before);
}

async function look(version) {
  const answer = await fetch(`state?after=${version}`);
  if (answer.status === 401) throw new Error("the token is missing: open the address that the console shows");
  if (!answer.ok) throw new Error((await answer.json()).error);
  const state = await answer.json();
  $("#empty").hidden = state.has_source;
  $("#pause").hidden = !state.has_source || state.ended;
  $("#sources").classList.toggle("single", state.sources.length === 1);
  state.sources.forEach(source => show(source, state.ended));
  await Promise.all(state.sources.map(showImage));
  if (state.ended) say("the run has ended; these are its last frames");
  else if (!state.has_source) say("answers requests");
  else say(state.sources.length ? "live" : "the network is being loaded");
  return state;
}

async function follow() {
  let version = "", hasEnded = false;
  for (;;) {
    if (paused || document.hidden) { await sleep(PAUSE_MS); continue; }
    try {
      const state = await look(version);
      ({version, ended: hasEnded} = state);
      if (hasEnded) return;
      await sleep(PAUSE_MS);
    } catch (error) {
      const isAway = error instanceof TypeError; // fetch could not connect
      say(isAway ? "detect.py has ended or cannot be reached; trying again" : error.message, true);
      version = "";
      await sleep(RETRY_MS);
    }
  }
}

function mark(found, size) {
  const element = document.createElement("i"), label = document.createElement("b");
  const [left, top, right, bottom] = found.box;
  label.textContent = found.name;
  element.append(label);
  const share = (value, whole) => `${100 * value / whole}%`;
  element.style.left = share(left, size[1]);
  element.style.top = share(top, size[0]);
  element.style.width = share(right - left, size[1]);
  element.style.height = share(bottom - top, size[0]);
  return element;
}

async function send(file) {
  const note = (text, isBad) => {
    setText($("#answer"), text);
    $("#answer").classList.toggle("bad", isBad);
  };
  note("looking", false);
  $("#result").hidden = true;
  try {
    const answer = await fetch("detect", {method: "POST", body: file, headers: {"Content-Type": "application/octet-stream"}});
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    const count = found.detections.length;
    note(count === 1 ? "1 detection" : `${count} detections`, false);
    const image = $("#sent");
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(file);
    image.alt = `${file.name}, with boxes around what was found`;
    $("#marks").replaceChildren(...found.detections.map(each => mark(each, found.image_hw)));
    $("#found").replaceChildren(...found.detections.map(each => {
      const item = document.createElement("li");
      item.textContent = `${each.name} ${each.score.toFixed(2)}`;
      return item;
    }));
    $("#result").hidden = false;
  } catch (error) {
    note(error instanceof TypeError ? "detect.py cannot be reached" : error.message, true);
  }
}

$("#pause").addEventListener("click", () => {
  paused = !paused;
  $("#pause").setAttribute("aria-pressed", String(paused));
  if (paused) say("paused; detection goes on");
});
$("#form").addEventListener("submit", event => event.preventDefault());
$("#file").addEventListener("change", event => {
  if (event.target.files.length) send(event.target.files[0]);
});
setText($("#curl"), `curl --data-binary @bus.jpg ${location.origin}/detect`);
follow();
})();
