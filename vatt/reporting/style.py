"""Style sheet of the report: system fonts, light and dark, one column on a phone."""

CSS = """
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#fff;--ink:#1c1e21;--soft:#666b73;
  --line:#e2e2dc;--s0:#2f62c9;--s1:#c8641b;--s2:#18845c;--s3:#8a6d1d;--s4:#8b4fb3;
    --s5:#b83a6b;--k0:#72020f;--k1:#515cff;--k2:#d36307;--k3:#8d5699;--k4:#eba335;--k5:#2d0bcb;
    --k6:#6c9efe;--k7:#a5340a;--k8:#562673;--k9:#b584a1;--other:#c2c4c8;
    --good:#18845c;--bad:#a8572b;--goodbg:#e3f3ea;--badbg:#f7ebe0;--edge:#0003}
@media(prefers-color-scheme:dark){
  :root{--paper:#16181b;--card:#1d2024;--ink:#e7e7e3;--soft:#9aa0a8;--line:#33373d;--s0:#7da5f5;
    --s1:#f0a066;--s2:#5cc79a;--s3:#d5b660;--s4:#c79ae6;--s5:#f08fb4;--k0:#e1ee27;--k1:#4abd98;--k2:#bf06ee;--k3:#45fee0;--k4:#7f089d;
    --k5:#f579f9;--k6:#b7c317;--k7:#b71e02;--k8:#da6506;--k9:#508ea4;--other:#5a5f66;
    --good:#5cc79a;--bad:#e9a77c;
    --goodbg:#1d3a2e;--badbg:#40291b;--edge:#fff3}
}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",
    sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1160px;margin:0 auto;padding:40px 24px 80px}
h1{font-size:30px;line-height:1.2;margin:0 0 4px;font-weight:650;letter-spacing:-.01em}
h2{font-size:20px;margin:52px 0 14px;padding-top:14px;border-top:2px solid var(--ink);
  font-weight:650}
h3{font-size:16px;margin:22px 0 8px;font-weight:650}
h4{font-size:15px;margin:22px 0 8px;font-weight:600}
p{margin:6px 0;max-width:95ch}
.note{color:var(--soft);font-size:13px;font-weight:400}
h3 .note,h4 .note,figcaption .note{margin-left:10px}
.lead{color:var(--soft);font-size:16px;margin:0 0 22px}
.missing{color:var(--soft);background:var(--card);border:1px dashed var(--line);
  border-radius:6px;padding:12px 16px;max-width:none}
.warning{border-left:3px solid var(--bad);padding:4px 12px}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(45%,170px),1fr));
  gap:14px 24px;
  margin:0}
.facts dt{color:var(--soft);font-size:12.5px}
.facts dd{margin:0;overflow-wrap:anywhere}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;
  padding:6px 24px 20px;margin:0 0 18px}
.scroll{overflow-x:auto;--under:var(--paper);background:
  linear-gradient(90deg,var(--under) 40%,transparent) left/36px 100% no-repeat local,
  linear-gradient(270deg,var(--under) 40%,transparent) right/36px 100% no-repeat local,
  linear-gradient(90deg,var(--edge),transparent) left/14px 100% no-repeat scroll,
  linear-gradient(270deg,var(--edge),transparent) right/14px 100% no-repeat scroll}
.card .scroll{--under:var(--card)}
.tall{max-height:440px;overflow-y:auto}
.card .grid,.scroll+.grid,details+.grid,.grid+.card,details+.card{margin-top:20px}
summary+.grid{margin-top:10px}
.scroll+.scroll{margin-top:14px}
table{border-collapse:collapse}
th{font-weight:500;text-align:left}
.headline{width:100%;min-width:560px}
.headline thead th{color:var(--soft);font-size:13px}
.headline td,.headline th{padding:8px 20px 8px 0;vertical-align:baseline}
.headline tbody th{font-size:16px;white-space:nowrap}
.headline td b{font-size:30px;font-weight:620;letter-spacing:-.02em;white-space:nowrap}
.headline td .note{display:block;white-space:nowrap}
.headline tbody tr+tr{border-top:1px solid var(--line)}
.data{min-width:560px;font-size:14px}
.data td,.data th{padding:4px 18px 4px 0;text-align:right}
.data th[scope=row],.left th,.data .name{text-align:left}
.data th[scope=colgroup]{text-align:center;border-bottom:1px solid var(--line)}
.data thead th{color:var(--soft);font-size:13px}
.prov td,.prov th{text-align:left;vertical-align:top}
.data.prov td{white-space:normal}
.data tbody tr{border-top:1px solid var(--line)}
.data td{white-space:nowrap}
.data td b{font-weight:700}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));
  gap:22px 36px}
.grid figure>svg{max-width:620px}
.grid.three figure>svg{max-width:420px}
.grid.three{grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr))}
figure{margin:0;min-width:0}
figcaption{margin-bottom:4px}
figcaption b{font-weight:600}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--soft);font-size:11.5px}
.three svg text{font-size:15px}
svg .rule{stroke:var(--line);stroke-width:1}
svg g path{fill:none;stroke:currentColor;stroke-width:1.8;stroke-linejoin:round}
svg g .band{fill:currentColor;stroke:none;opacity:.16}
svg circle{fill:currentColor}
.dash path{stroke-dasharray:5 4;stroke-width:1.3!important}
.s0{color:var(--s0)}
.s1{color:var(--s1)}
.s2{color:var(--s2)}
.s3{color:var(--s3)}
.s4{color:var(--s4)}
.s5{color:var(--s5)}
.k0{color:var(--k0)}
.k1{color:var(--k1)}
.k2{color:var(--k2)}
.k3{color:var(--k3)}
.k4{color:var(--k4)}
.k5{color:var(--k5)}
.k6{color:var(--k6)}
.k7{color:var(--k7)}
.k8{color:var(--k8)}
.k9{color:var(--k9)}
.other,.none{color:var(--other)}
svg.points{max-width:500px}
.plane figcaption .note{display:block;margin:0}
.points circle{fill-opacity:.85}
.points .none{fill:none;stroke:currentColor;stroke-width:3}
.points .frame{fill:var(--card);stroke:var(--line);stroke-width:2}
.legend.points{max-width:none;margin:10px 0 0}
.legend.points i{width:11px;height:11px;border:2.5px solid;border-radius:50%;
  background:currentColor;vertical-align:-1px}
.legend.points i.none{background:none}
.told{margin:6px 0;padding-left:20px;max-width:95ch}
.data .chance{color:var(--soft)}
.attention img,.attention .wave{display:block;width:100%}
.attention .wave{height:36px;margin-top:8px}
.attention .note{margin:2px 0 0}
.heat{display:grid;margin-top:3px}
.heat img{grid-area:1/1;height:100%}
.heat .jpeg{filter:grayscale(1) brightness(.8)}
.heat .png{position:relative}
.listened{height:36px;color:var(--s1)}
.listened path{fill:currentColor;fill-opacity:.5}
.listened .even{stroke:var(--ink);stroke-width:1;stroke-dasharray:4 3;
  vector-effect:non-scaling-stroke}
.scale i{display:inline-block;width:160px;height:10px;margin:0 4px;vertical-align:-1px;
  border:1px solid var(--line)}
.hover rect{fill:transparent}
.hover path{stroke:var(--soft)!important;stroke-width:1!important;opacity:0}
.hover:hover path{opacity:.7}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;font-size:13px;margin:2px 0 0 52px}
.legend span{overflow-wrap:anywhere;min-width:0}
.legend i{display:inline-block;width:18px;border-top:2.5px solid;vertical-align:4px;
  margin-right:6px}
.legend .dash{border-top-style:dashed}
.bars{display:grid;gap:7px;margin-top:8px}
.bar{display:grid;grid-template-columns:104px 1fr 66px;gap:12px;align-items:center;
  font-size:14px}
.track{position:relative;height:14px;background:var(--line);border-radius:3px}
.track b{position:absolute;inset:0 auto 0 0;background:var(--s0);border-radius:3px}
.track i{position:absolute;top:-3px;bottom:-3px;width:2px;background:var(--ink)}
.num{text-align:right}
.query{padding:14px 0 16px;border-top:1px solid var(--line)}
.asked{display:flex;flex-wrap:wrap;gap:6px 16px;align-items:center;margin-bottom:8px}
.asked q{font-size:16px}
.tag{font-size:12.5px;border-radius:99px;padding:1px 10px;white-space:nowrap}
.tag.hit{color:var(--good);background:var(--goodbg)}
.tag.miss{color:var(--bad);background:var(--badbg)}
.wave{width:260px;height:44px;color:var(--s0)}
.asked .jpeg{height:64px;border-radius:2px}
.result .wave{width:100%;height:40px}
.wave path{stroke:currentColor;stroke-width:1.3;fill:none}
.results{display:grid;grid-template-columns:repeat(6,1fr);gap:10px}
.result{border:3px solid transparent;border-radius:6px;padding:3px 4px}
.result img,.blank{display:block;width:100%;border-radius:2px}
.blank{background:var(--line);padding:16px 4px;text-align:center;font-size:12px;
  color:var(--soft)}
.result figcaption{overflow-wrap:anywhere;
  font-size:12px;line-height:1.3;margin:4px 0 0;color:var(--soft)}
.result figcaption b{color:var(--ink)}
.result.hit{border-color:var(--good)}
.result.hit figcaption b{color:var(--good)}
.result.truth{border:3px dashed var(--line)}
.beside{display:flex;flex-wrap:wrap;gap:0 56px}
.beside>div{min-width:0;max-width:100%}
.classes{min-width:0}
.classes .name{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:110px;
  max-width:340px}
.share{width:120px}
.share .track{height:9px;min-width:80px}
.matrix{max-width:none}
.matrix text{font-size:11.5px}
.matrix rect{fill:currentColor}
.matrix .count{fill:var(--ink)}
.matrix .count.on{fill:var(--paper)}
.mistakes{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,250px),1fr));
  gap:14px 16px}
.mistakes figcaption b{display:block}
.mistakes .wave{width:100%;height:36px}
.result img.png{height:84px;image-rendering:auto}
details{margin:10px 0}
summary{cursor:pointer;color:var(--soft);padding:4px 0}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:14px 16px;
  overflow-x:auto;font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
@media(max-width:900px){
  .results{grid-template-columns:repeat(3,1fr)}
}
@media(max-width:560px){
  main{padding:24px 14px 60px}
  .results{grid-template-columns:repeat(2,1fr)}
  svg text,.three svg text{font-size:17px}
  .card{padding:4px 14px 14px}
  .legend{margin-left:0}
  .headline,.headline tbody{display:block;min-width:0}
  .headline thead{display:none}
  .headline tbody tr{display:grid;grid-template-columns:repeat(auto-fill,minmax(86px,1fr))}
  .headline tbody th{grid-column:1/-1;padding-bottom:0}
  .headline td::before{content:attr(data-title);display:block;color:var(--soft);font-size:12.5px}
  .headline td b{font-size:18px}
  .headline td,.headline th{padding-right:6px}
  .headline td .note{font-size:12px}
  .data{min-width:0;font-size:13px}
  .data td,.data th{padding-right:10px}
  .classes .name{min-width:96px}
  .share{width:64px}
  .share .track{min-width:44px}
  .bar{grid-template-columns:92px 1fr 58px;gap:8px}
  figure svg{padding-left:10px}
}
@media print{
  .card,.query,figure{break-inside:avoid}
}
"""
