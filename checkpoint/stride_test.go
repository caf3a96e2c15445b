//go:build !race

package checkpoint

// stride visits every operation and every random bit.
const stride = 1
