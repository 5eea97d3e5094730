'use strict';
const form = document.getElementById('ask'), state = document.getElementById('status');
const found = document.getElementById('found'), given = document.getElementById('given');
const chooser = document.getElementById('file'), text = form.elements.text;
let file = null, asked = 0;

function tell(message, amiss) {
  state.textContent = message;
  state.className = amiss ? 'warning' : '';
}

function take(chosen) {
  file = chosen || null;
  given.hidden = !file;
  const old = given.querySelector('.shown');
  if (old.firstChild) URL.revokeObjectURL(old.firstChild.src);
  old.replaceChildren();
  chooser.value = '';
  if (!file) return;
  const kind = file.type.split('/')[0];
  const shown = document.createElement({image: 'img', audio: 'audio'}[kind] || 'video');
  if (kind !== 'image') { shown.controls = true; shown.preload = 'metadata'; }
  shown.src = URL.createObjectURL(file);
  old.append(shown);
  given.querySelector('b').textContent = file.name;
  const pictures = form.elements.video, sound = form.elements.audio;
  if (pictures && sound) {
    pictures.checked = kind !== 'audio';
    sound.checked = kind === 'audio';
  }
}

function uses() {
  return ['video', 'audio'].filter(name => form.elements[name] && form.elements[name].checked);
}

async function search() {
  const sentence = text.value.trim();
  if (!sentence && !file) return tell('Type a sentence, or drop a video or a sound.', true);
  if (file && !uses().length) return tell('Tick what of the file to ask with.', true);
  const most = Number(form.dataset.most);
  if (file && file.size > most)
    return tell(`The file is too large: at most ${most / 2 ** 20} MiB.`, true);
  const number = ++asked;
  const query = new URLSearchParams({text: sentence, top: form.elements.top.value});
  if (form.elements.modality && form.elements.modality.value)
    query.set('modality', form.elements.modality.value);
  if (form.elements.every.checked) query.set('every', '1');
  if (file) { query.set('use', uses().join(',')); query.set('name', file.name); }
  document.body.classList.add('busy');
  tell('Searching …');
  try {
    const answer = await fetch('search?' + query, {method: 'POST', body: file});
    const result = await answer.json();
    if (number !== asked) return;
    if (!answer.ok) throw new Error(result.error);
    found.innerHTML = result.html;
    tell(result.told);
    for (const notice of result.notices) {
      const line = document.createElement('p');
      line.className = 'warning';
      line.textContent = notice;
      found.prepend(line);
    }
    const address = file ? location.pathname : '?text=' + encodeURIComponent(sentence);
    history.replaceState(null, '', address);
  } catch (error) {
    if (number !== asked) return;
    found.replaceChildren();
    tell(error instanceof TypeError ? 'No answer: was the command ended?' : error.message, true);
  } finally {
    if (number === asked) document.body.classList.remove('busy');
  }
}

form.addEventListener('submit', event => { event.preventDefault(); search(); });
form.addEventListener('change', event => {
  if (event.target === chooser) take(chooser.files[0]);
  if (event.target !== text && (text.value.trim() || file)) search();
});
given.querySelector('button').addEventListener('click', () => take(null));
let inside = 0;
const over = on => document.body.classList.toggle('over', on);
document.addEventListener('dragenter', () => over(++inside > 0));
document.addEventListener('dragleave', () => over(--inside > 0));
document.addEventListener('dragover', event => event.preventDefault());
document.addEventListener('drop', event => {
  event.preventDefault();
  inside = 0;
  over(false);
  if (event.dataTransfer.files.length) { take(event.dataTransfer.files[0]); search(); }
});
// What the browser cannot play is cut out of the file for it.
document.addEventListener('error', event => {
  const shown = event.target, instead = shown.dataset && shown.dataset.instead;
  if (!instead) return;
  delete shown.dataset.instead;
  const played = shown.dataset.played;
  shown.src = instead;
  if (played) shown.play();
}, true);
document.addEventListener('play', event => {
  event.target.dataset.played = '1';
  for (const other of document.querySelectorAll('video, audio'))
    if (other !== event.target) other.pause();
}, true);
const before = new URLSearchParams(location.search).get('text');
if (before) { text.value = before; search(); }
