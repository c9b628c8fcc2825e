package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/klauspost/compress/zstd"

	"github.com/buildcage/buildcage/embed/artifact"
)

// writeFile creates name with what write writes, all of it or nothing, and
// returns its digest and size. What is half written has a name that go:embed
// passes over.
func writeFile(name string, write func(io.Writer) error) (artifact.Blob, error) {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".tmp")
	f, err := os.Create(tmp)
	if err != nil {
		return artifact.Blob{}, err
	}
	defer os.Remove(tmp)
	defer f.Close()

	sum := &digester{hash: sha256.New()}
	buf := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	if err := write(buf); err != nil {
		return artifact.Blob{}, err
	}
	if err := buf.Flush(); err != nil {
		return artifact.Blob{}, err
	}
	if err := f.Close(); err != nil {
		return artifact.Blob{}, err
	}
	return sum.blob(), os.Rename(tmp, name)
}

// hashFile returns the digest and size of the file.
func hashFile(name string) (artifact.Blob, error) {
	f, err := os.Open(name)
	if err != nil {
		return artifact.Blob{}, err
	}
	defer f.Close()
	sum := &digester{hash: sha256.New()}
	if _, err := io.Copy(sum, f); err != nil {
		return artifact.Blob{}, err
	}
	return sum.blob(), nil
}

func hashBytes(data []byte) artifact.Blob {
	sum := sha256.Sum256(data)
	return artifact.Blob{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

type digester struct {
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	size int64
}

func (d *digester) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	return d.hash.Write(p)
}

func (d *digester) blob() artifact.Blob {
	return artifact.Blob{SHA256: hex.EncodeToString(d.hash.Sum(nil)), Size: d.size}
}

// window is how far back a repetition may be. The program that unpacks the
// image needs as much memory: 32 MiB would make the file an eighth smaller.
const window = 8 << 20

// compress writes the file compressed.
func compress(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	enc, err := zstd.NewWriter(w,
		zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithWindowSize(window))
	if err != nil {
		return err
	}
	if _, err := io.Copy(enc, f); err != nil {
		return err
	}
	return enc.Close()
}

// lock waits until no other builder uses the same working directory.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking working directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking working directory: %w", err)
	}
	return func() { f.Close() }, nil
}
