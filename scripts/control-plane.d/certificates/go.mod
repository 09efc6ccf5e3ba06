module interlock.example/control-plane/certificates

go 1.26.0
