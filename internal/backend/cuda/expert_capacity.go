package cuda

func init() { register("expert_capacity", expertCapacity) }

// expertCapacity gives each expert of a sequence to a warp.
func expertCapacity(a *args) {
	batch, length, k := a.Attrs.Int("batch"), a.Attrs.Int("length"), a.In[1].Dim(1)
	experts := a.Attrs.Int("experts")
	limited, drops := a.or(a.out(0), batch*length*k), a.or(a.out(1), batch*experts)
	a.file("expert_capacity").launch("expert_capacity", warpRows(batch*experts), limited, drops, a.In[0], a.In[1], a.In[2],
		batch, length, k, experts, a.Attrs.Int("capacity"))
}
