//go:build race

package checkpoint

// stride leaves out operations where the race detector makes each slow.
const stride = 7
