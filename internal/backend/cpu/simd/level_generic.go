//go:build !amd64

package simd

func best() level { return levelGo }
