// certificates DIR writes the keys and certificates of the test control plane into DIR:
// three authorities, the certificates they sign, and the service-account key pair, all
// PEM, ECDSA P-256, valid for ten years. A directory that has them already is left as it
// is, so that what was handed to a client stays valid over restarts.
//
// The rule: client-ca signs clients, ca signs servers, second-ca is trusted by nothing
// that this control plane runs. Keys are readable by their owner alone.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

var loopback = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}

// A certificate is written to NAME.crt and NAME.key. Without a signer it is an authority.
var certificates = []struct {
	name, signer string
	subject      pkix.Name
	use          x509.ExtKeyUsage
	hosts        []string
	addresses    []net.IP
}{
	{name: "ca", subject: pkix.Name{CommonName: "control-plane-ca"}},
	{name: "client-ca", subject: pkix.Name{CommonName: "control-plane-client-ca"}},
	{name: "second-ca", subject: pkix.Name{CommonName: "control-plane-second-ca"}},
	{
		name: "server", signer: "ca", subject: pkix.Name{CommonName: "kube-apiserver"},
		use: x509.ExtKeyUsageServerAuth, addresses: append(loopback, net.IPv4(10, 96, 0, 1)),
		hosts: []string{
			"localhost", "api.interlock.test", "kubernetes", "kubernetes.default",
			"kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		},
	},
	{
		name: "kubelet", signer: "ca", subject: pkix.Name{CommonName: "kubelet"},
		use: x509.ExtKeyUsageServerAuth, addresses: loopback, hosts: []string{"localhost"},
	},
	{
		name: "admin", signer: "client-ca", use: x509.ExtKeyUsageClientAuth,
		subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
	},
	{
		name: "gateway", signer: "client-ca", use: x509.ExtKeyUsageClientAuth,
		subject: pkix.Name{CommonName: "interlock-gateway"},
	},
	{
		name: "second-admin", signer: "second-ca", use: x509.ExtKeyUsageClientAuth,
		subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
	},
}

type pair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: certificates DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "certificates:", err)
		os.Exit(1)
	}
}

func write(directory string) error {
	last := filepath.Join(directory, "service-account.pub") // written last: all are there
	if _, err := os.Stat(last); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	made := map[string]pair{}
	for _, c := range certificates {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		if err != nil {
			return err
		}
		template := &x509.Certificate{
			SerialNumber: serial, Subject: c.subject,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
			BasicConstraintsValid: true, IsCA: c.signer == "",
			DNSNames: c.hosts, IPAddresses: c.addresses,
		}
		signer := pair{template, key}
		if template.IsCA {
			template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		} else {
			template.KeyUsage = x509.KeyUsageDigitalSignature
			template.ExtKeyUsage = []x509.ExtKeyUsage{c.use}
			signer = made[c.signer]
		}
		der, err := x509.CreateCertificate(rand.Reader, template, signer.certificate, &key.PublicKey, signer.key)
		if err != nil {
			return err
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		made[c.name] = pair{certificate, key}
		if err := writeKey(filepath.Join(directory, c.name+".key"), key); err != nil {
			return err
		}
		if err := writePEM(filepath.Join(directory, c.name+".crt"), "CERTIFICATE", der, 0o644); err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(filepath.Join(directory, "service-account.key"), key); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return writePEM(last, "PUBLIC KEY", public, 0o644)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der, 0o600)
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
