for (const plot of document.querySelectorAll('.plot')) {
  const svg = plot.querySelector('svg'), out = plot.querySelector('output'), cross = plot.querySelector('.cross')
  const data = JSON.parse(plot.querySelector('script').textContent)
  if (!data.x.length) continue
  const show = event => {
    const box = svg.getBoundingClientRect(), width = svg.viewBox.baseVal.width
    const x = (event.clientX - box.left) / box.width * width
    let best = 0
    data.x.forEach((v, i) => { if (Math.abs(v - x) < Math.abs(data.x[best] - x)) best = i })
    cross.setAttribute('x1', data.x[best])
    cross.setAttribute('x2', data.x[best])
    out.textContent = data.t[best]
    out.style.display = 'block'
    const left = data.x[best] / width * box.width
    out.style.left = Math.min(left + 8, box.width - out.offsetWidth) + 'px'
    if (left + 8 + out.offsetWidth > box.width) out.style.left = Math.max(0, left - 8 - out.offsetWidth) + 'px'
  }
  plot.addEventListener('pointermove', show)
  plot.addEventListener('pointerdown', show)
  plot.addEventListener('pointerleave', () => { out.style.display = 'none'; cross.setAttribute('x1', -9); cross.setAttribute('x2', -9) })
}
