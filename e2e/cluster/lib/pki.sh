# Certificates and kubeconfigs.
# shellcheck shell=bash

# certificate NAME SUBJECT [SUBJECT_ALT_NAMES]
certificate() {
  local name=$1 subject=$2 extensions="basicConstraints=CA:FALSE${3:+
subjectAltName=$3}"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$PKI/$name.key" -out "$PKI/$name.csr" -subj "$subject" 2>/dev/null
  openssl x509 -req -in "$PKI/$name.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial \
    -out "$PKI/$name.crt" -days 365 -extfile <(echo "$extensions") 2>/dev/null
}

# kubeconfig NAME FILE: for the certificate of that name.
kubeconfig() {
  local name=$1 file=$2
  (umask 077 && cat >"$file") <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: $CLUSTER
    cluster:
      server: https://$NODE_IP:6443
      certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
  - name: $name
    user:
      client-certificate-data: $(base64 -w0 "$PKI/$name.crt")
      client-key-data: $(base64 -w0 "$PKI/$name.key")
contexts:
  - name: $CLUSTER
    context: {cluster: $CLUSTER, user: $name}
current-context: $CLUSTER
YAML
}

create_pki() {
  mkdir -m 700 "$PKI"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$PKI/ca.key" -out "$PKI/ca.crt" -subj "/CN=$CLUSTER" -days 365 2>/dev/null
  openssl ecparam -genkey -name prime256v1 -noout -out "$PKI/service-accounts.key"
  openssl ec -in "$PKI/service-accounts.key" -pubout -out "$PKI/service-accounts.pub" 2>/dev/null

  local service=kubernetes.default
  certificate apiserver /CN=kube-apiserver \
    "IP:127.0.0.1,IP:$NODE_IP,IP:$KUBERNETES_SERVICE_IP,DNS:localhost,DNS:kubernetes,DNS:$service,DNS:$service.svc,DNS:$service.svc.cluster.local"
  certificate kubelet-server "/CN=$CLUSTER" "IP:$NODE_IP,DNS:$CLUSTER"
  certificate apiserver-to-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate admin /O=system:masters/CN=admin
  certificate kube-controller-manager /CN=system:kube-controller-manager
  certificate kube-scheduler /CN=system:kube-scheduler
  certificate kube-proxy /CN=system:kube-proxy
  certificate kubelet "/O=system:nodes/CN=system:node:$CLUSTER"

  kubeconfig admin "$ADMIN_KUBECONFIG"
  local user
  for user in kube-controller-manager kube-scheduler kube-proxy kubelet; do
    kubeconfig "$user" "$PKI/$user.kubeconfig"
  done
}
