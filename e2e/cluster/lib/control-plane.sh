# shellcheck shell=bash

start_etcd() {
  start etcd \
    --data-dir="$STATE/etcd" \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 \
    --unsafe-no-fsync # the data doesn't outlive the cluster
}

start_kube-apiserver() {
  local audit=()
  if [[ ${CODEEXEC_AUDIT:-} == 1 ]]; then
    audit=(--audit-policy-file="$HERE/audit-policy.yaml" --audit-log-path="$LOGS/audit.log")
  fi
  start kube-apiserver \
    --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$NODE_IP" --secure-port=6443 \
    --service-cluster-ip-range="$SERVICE_RANGE" \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --client-ca-file="$PKI/ca.crt" \
    --kubelet-certificate-authority="$PKI/ca.crt" \
    --kubelet-client-certificate="$PKI/apiserver-to-kubelet.crt" \
    --kubelet-client-key="$PKI/apiserver-to-kubelet.key" \
    --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-signing-key-file="$PKI/service-accounts.key" \
    --service-account-key-file="$PKI/service-accounts.pub" \
    --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction \
    "${audit[@]}"
}

start_kube-controller-manager() {
  start kube-controller-manager \
    --kubeconfig="$PKI/kube-controller-manager.kubeconfig" \
    --use-service-account-credentials \
    --service-account-private-key-file="$PKI/service-accounts.key" \
    --root-ca-file="$PKI/ca.crt" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
    --flex-volume-plugin-dir="$STATE/volume-plugins" \
    --leader-elect=false
}

start_kube-scheduler() {
  start kube-scheduler --kubeconfig="$PKI/kube-scheduler.kubeconfig" --leader-elect=false
}

api_server_is_ready() { admin_kubectl get --raw /readyz; }

# The controller manager makes these; a Pod created before is refused.
default_account_exists() { admin_kubectl get serviceaccount default; }
