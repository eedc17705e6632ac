{{/*
A Deployment. Takes a dict:
  root       the chart's context
  component  operator or api, also the name of its values
  grace      seconds from SIGTERM to SIGKILL
  replicas   absent when something else sets them
  env        list of {name, value or valueFrom}; one of extraEnv with the same name replaces it, because
             server-side apply refuses a name that stands twice
  volumes    list of volumes, and
  mounts     where they are mounted; both may be absent
  scheme     of the probes; absent: HTTP
*/}}
{{- define "codeexec.deployment" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $values := index $root.Values $component -}}
{{- $name := printf "%s-%s" (include "codeexec.fullname" $root) $component -}}
{{- $port := include "codeexec.port" $values.listen -}}
{{- $selector := include "codeexec.selector" (list $root $component) -}}
{{- $scheme := hasKey . "scheme" | ternary (dict "scheme" .scheme) dict -}}
{{- $replaced := list -}}
{{- range $values.extraEnv -}}{{- $replaced = append $replaced .name -}}{{- end -}}
{{- $env := list -}}
{{- range .env -}}{{- if not (has .name $replaced) -}}{{- $env = append $env . -}}{{- end -}}{{- end -}}
{{- $spread := list -}}
{{- range $values.topologySpreadConstraints -}}
{{- $own := dict "labelSelector" (dict "matchLabels" (fromYaml $selector)) "matchLabelKeys" (list "pod-template-hash") -}}
{{- $spread = append $spread (hasKey . "labelSelector" | ternary . (merge (deepCopy .) $own)) -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "codeexec.labels" (list $root $component) | nindent 4 }}
  {{- with $values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if hasKey . "replicas" }}
  replicas: {{ int .replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    {{- if eq $values.strategy.type "Recreate" }}
    type: Recreate
    {{- else }}
    {{- toYaml $values.strategy | nindent 4 }}
    {{- end }}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- /* Without the chart's version: a new chart alone is no reason to replace Pods. */}}
        {{- merge (fromYaml $selector) $root.Values.commonLabels $values.podLabels | toYaml | nindent 8 }}
      {{- with $values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "codeexec.serviceAccount" (list $root $component) }}
      automountServiceAccountToken: true
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .grace }}
      securityContext:
        {{- include "codeexec.podSecurityContext" (list $root $component) | nindent 8 }}
      {{- with include "codeexec.imagePullSecrets" $root }}
      imagePullSecrets:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      containers:
        - name: {{ $component }}
          image: {{ include "codeexec.image" (list $root $component) }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          command: [/codeexec-{{ $component }}]
          {{- with $values.extraArgs }}
          args:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          env:
            {{- concat $env $values.extraEnv | toYaml | nindent 12 }}
          ports:
            - name: http
              containerPort: {{ $port }}
            {{- if eq $component "api" }}
            {{- with include "codeexec.apiMetricsPort" $root }}
            - name: metrics
              containerPort: {{ . }}
            {{- end }}
            {{- end }}
          livenessProbe:
            {{- merge (dict "httpGet" (merge (dict "path" "/healthz" "port" "http") $scheme)) $values.livenessProbe | toYaml | nindent 12 }}
          readinessProbe:
            {{- merge (dict "httpGet" (merge (dict "path" "/readyz" "port" "http") $scheme)) $values.readinessProbe | toYaml | nindent 12 }}
          {{- if eq $component "api" }}
          {{- /* The Service goes on sending for a moment after SIGTERM, which closes the listener at once. */}}
          lifecycle:
            preStop:
              sleep:
                seconds: 3
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "codeexec.securityContext" (list $root $component) | nindent 12 }}
          {{- with concat (default list .mounts) $values.extraVolumeMounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with concat (default list .volumes) $values.extraVolumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $spread }}
      topologySpreadConstraints:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}

{{/* A PodDisruptionBudget and a ServiceAccount; take (list . "component"). */}}
{{- define "codeexec.disruptionBudget" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $budget := (index $root.Values $component).podDisruptionBudget -}}
{{- if $budget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "codeexec.fullname" $root }}-{{ $component }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "codeexec.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ $budget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "codeexec.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{- define "codeexec.account" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $account := (index $root.Values $component).serviceAccount -}}
{{- if $account.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "codeexec.serviceAccount" . }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "codeexec.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{/* Binds the Role of the same name, in the executions' namespace; takes (list . "component"). */}}
{{- define "codeexec.roleBinding" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "codeexec.fullname" $root) (index . 1) -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ $root.Values.executions.namespace }}
  labels:
    {{- include "codeexec.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "codeexec.serviceAccount" . }}
    namespace: {{ $root.Release.Namespace }}
{{- end -}}

{{/*
What a component may reach, and who may reach it; takes (list . "component" from), where an empty `from` is anybody.
Without a third element nobody may: the component serves nothing. A fourth is who may reach its port `metrics`.
*/}}
{{- define "codeexec.networkPolicy" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $policy := $root.Values.networkPolicy -}}
{{- if $policy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "codeexec.fullname" $root }}-{{ $component }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "codeexec.labels" (list $root $component) | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "codeexec.selector" (list $root $component) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- if ge (len .) 3 }}
  ingress:
    - ports:
        - protocol: TCP
          port: http
      {{- with index . 2 }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- if ge (len .) 4 }}
    - ports:
        - protocol: TCP
          port: metrics
      {{- with index . 3 }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
  {{- end }}
  egress:
    # Policies see the address behind the Service, so these are the ports of the Kubernetes API's own machines.
    - ports:
        {{- range $policy.kubernetesApi.ports }}
        - protocol: TCP
          port: {{ int . }}
        {{- end }}
      {{- with $policy.kubernetesApi.cidrs }}
      to:
        {{- range . }}
        - ipBlock:
            cidr: {{ . }}
        {{- end }}
      {{- end }}
    # OpenShift's name servers listen on 5353.
    - ports:
        {{- range $port := list 53 5353 }}
        {{- range $protocol := list "UDP" "TCP" }}
        - protocol: {{ $protocol }}
          port: {{ $port }}
        {{- end }}
        {{- end }}
    {{- if and (ne $component "verify") $root.Values.monitoring.traces.endpoint }}
    # Traces.
    - ports:
        - protocol: TCP
          port: {{ regexFind "^http://[^/]+" $root.Values.monitoring.traces.endpoint | include "codeexec.port" }}
    {{- end }}
    {{- with $policy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}
