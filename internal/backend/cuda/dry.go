package cuda

import "jambalaya/internal/engine"

// NewDry returns a backend without a device: plans can be laid out and bound on
// it, which checks every call against the signature of its kernel and tells how
// much memory a plan needs, but not run. It passes for a Hopper.
func NewDry() *Backend {
	return &Backend{dry: true, device: device{major: hopperMajor}, modules: map[string]*module{}, algorithms: map[string]string{}, memory: map[*memory]struct{}{}}
}

// Kernels are the names of all kernels.
func Kernels() []string {
	names := make([]string, 0, len(kernels))
	for name := range kernels {
		names = append(names, name)
	}
	return names
}

// Kernel implements engine.Backend.
func (b *Backend) Kernel(name string) (engine.Kernel, bool) {
	k, ok := kernels[name]
	return bound{b, k}, ok
}
