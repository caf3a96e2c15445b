package cuda

func init() {
	register("cross_entropy", crossEntropy)
	register("cross_entropy_grad", crossEntropyGrad)
}

func crossEntropy(a *args) {
	logits, targets, loss := a.In[0], a.In[1], a.out(0)
	rows, vocab := logits.Dim(0), logits.Dim(1)
	nll := a.or(a.out(1), rows)
	vec, width := vector(vocab, logits)
	a.file("loss", typed("X", logits), typed("DX", nil), vec).
		launch("cross_entropy", aRow(rows, vocab/width), nll, a.out(2), a.faults(), logits, targets, vocab)
	if loss != nil {
		a.file("reduce").launch("total", grid{x: 1, threads: 1024}, loss, nll, rows)
	}
}

func crossEntropyGrad(a *args) {
	logits, targets, lse, dloss, dlogits := a.In[0], a.In[1], a.In[2], a.In[3], a.out(0)
	rows, vocab := logits.Dim(0), logits.Dim(1)
	vec, width := vector(vocab, logits, dlogits)
	a.file("loss", typed("X", logits), typed("DX", dlogits), vec).
		launch("cross_entropy_grad", aRow(rows, vocab/width), dlogits, logits, targets, lse, dloss, vocab)
}
