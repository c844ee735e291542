// Switches objects on and off, and lights up the one that the pointer or the keyboard is at. `element` is the result.
const hidden = new Set(); // keys of objects: new layers of the same photo leave it as it is
const each = (selector, act) => element.querySelectorAll(selector).forEach(act);

const show = () => {
  each('.tree input', (box) => { box.checked = !hidden.has(box.value); });
  each('[data-object]', (part) => part.classList.toggle('off', hidden.has(part.dataset.object)));
};

const light = (target) => {
  const key = target.closest('[data-object]')?.dataset.object;
  each('[data-object]', (part) => part.classList.toggle('lit', part.dataset.object === key));
};

element.addEventListener('change', ({ target }) => {
  if (!target.matches('.tree input')) return;
  hidden[target.checked ? 'delete' : 'add'](target.value);
  show();
});

element.addEventListener('click', ({ target }) => {
  if (!target.dataset.switch) return;
  hidden.clear();
  if (target.dataset.switch === 'off') each('.tree input', (box) => hidden.add(box.value));
  show();
});

// A finger does not hover: what it has touched would stay lit.
element.addEventListener('pointerover', ({ pointerType, target }) => { if (pointerType === 'mouse') light(target); });
element.addEventListener('focusin', ({ target }) => { if (target.matches(':focus-visible')) light(target); });
for (const event of ['pointerleave', 'focusout']) element.addEventListener(event, () => light(element));

watch('value', show);
watch('photo', () => { hidden.clear(); show(); });
